# cmake --install build/release --prefix PREFIX: the program, the library for embedding, the default model.
include(GNUInstallDirs)
install(TARGETS cento-cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS cento ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/cento.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
# resource_find() in src/cli/input.c looks there
install(DIRECTORY models/cento-tiny DESTINATION ${CMAKE_INSTALL_DATADIR}/cento/models)
file(RELATIVE_PATH CENTO_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/cento.pc.in cento.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/cento.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
