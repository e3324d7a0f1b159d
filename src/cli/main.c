/* The cento program: finds the command and runs it; --help and --version. */
#include <stdio.h>
#include <string.h>

#include "cento.h"
#include "commands.h"
#include "options.h"
#include "term.h"

static const command *const commands[] = {&run_command,      &chat_command,  &serve_command,
                                          &tokenize_command, &model_command, &bench_command};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static void print_overview(FILE *stream) {
    const char *bold = style(stream, STYLE_BOLD), *plain = style(stream, STYLE_PLAIN);
    fprintf(stream, "cento %s: answers from chunks of text that are computed once and composed freely\n\n",
            cento_version());
    fprintf(stream, "%susage:%s cento COMMAND [options] …\n\n", bold, plain);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(stream, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(stream, "  %-10s %s\n", "help", "all options of a command: cento help COMMAND");
    fprintf(stream, "\n%sFirst steps%s\n", bold, plain);
    fprintf(stream, "  cento run --chunk @notes.txt \"Where is Crystalton?\"\n  cento chat\n");
}

static int unknown_command(const char *word) {
    const char *names[COMMAND_COUNT + 1];
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        names[i] = commands[i]->name;
    names[COMMAND_COUNT] = "help";
    const char *nearest = nearest_name(word, names, COMMAND_COUNT + 1);
    const char *kind = word[0] == '-' ? "option" : "command";
    if (nearest != NULL && word[0] != '-')
        message_error("unknown %s '%s'; did you mean '%s'?", kind, word, nearest);
    else
        message_error("unknown %s '%s'", kind, word);
    fputs("usage: cento COMMAND [options] …\nMore: cento --help\n", stderr);
    return EXIT_STATUS_USAGE;
}

static const command *find_command(const char *name) {
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static int help(int argc, char **argv) {
    if (argc == 0) {
        print_overview(stdout);
        return EXIT_STATUS_OK;
    }
    const command *found = find_command(argv[0]);
    if (found == NULL)
        return unknown_command(argv[0]);
    /* the rest of the words ("bench qa"), then --help: the command knows its own options */
    char *arguments[3];
    int count = 0;
    if (argc > 1)
        arguments[count++] = argv[1];
    static char help_option[] = "--help";
    arguments[count++] = help_option;
    return found->run(found, count, arguments);
}

static int dispatch(int argc, char **argv) {
    if (argc < 2) {
        print_overview(stderr);
        return EXIT_STATUS_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("cento %s\n", cento_version());
        return EXIT_STATUS_OK;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
        return help(argc - 2, argv + 2);
    const command *found = find_command(word);
    return found == NULL ? unknown_command(word) : found->run(found, argc - 2, argv + 2);
}

int main(int argc, char **argv) {
    term_init();
    int status = dispatch(argc, argv);
    int written = output_finish();
    return status == EXIT_STATUS_OK ? written : status;
}
