/* Messages, colours, widths, progress, tables; see term.h. One thread. */
#include "term.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "commands.h"

/* ------------------------------------------------------------------------- the terminal --- */

void term_init(void) {
    /* numbers stay in the C locale: JSON and option values have a decimal point everywhere */
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
    signal(SIGPIPE, SIG_IGN);
}

bool term_is_tty(FILE *stream) {
    return isatty(fileno(stream)) == 1;
}

size_t term_columns(FILE *stream) {
    struct winsize window;
    if (!term_is_tty(stream) || ioctl(fileno(stream), TIOCGWINSZ, &window) != 0 || window.ws_col == 0)
        return 80;
    return window.ws_col;
}

static bool can_move_cursor(FILE *stream) {
    const char *kind = getenv("TERM");
    return term_is_tty(stream) && kind != NULL && strcmp(kind, "dumb") != 0;
}

const char *style(FILE *stream, style_name name) {
    const char *no_color = getenv("NO_COLOR");
    if ((no_color != NULL && *no_color != '\0') || !can_move_cursor(stream))
        return "";
    switch (name) {
    case STYLE_PLAIN:
        return "\033[0m";
    case STYLE_BOLD:
        return "\033[1m";
    case STYLE_DIM:
        return "\033[2m";
    case STYLE_ERROR:
        return "\033[31m";
    case STYLE_ACCENT:
        return "\033[36m";
    }
    return "";
}

/* ------------------------------------------------------------------------------ messages --- */

void message_error(const char *format, ...) {
    progress_clear();
    fflush(stdout);
    fprintf(stderr, "%scento:%s ", style(stderr, STYLE_ERROR), style(stderr, STYLE_PLAIN));
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    int needed = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = needed < 0 ? NULL : mem_alloc((size_t)needed + 1, 1);
    if (text != NULL) {
        vsnprintf(text, (size_t)needed + 1, format, again);
        print_text(stderr, text, (size_t)needed);
        mem_free(text);
    }
    va_end(again);
    fputc('\n', stderr);
}

int fail(const cento_error *error) {
    message_error("%s", error->message);
    return EXIT_STATUS_FAILURE;
}

static int output_errno; /* of the first failed write to standard output; 0: none failed */

bool output_write(const char *text, size_t bytes) {
    errno = 0;
    print_text(stdout, text, bytes);
    if (fflush(stdout) != 0 && output_errno == 0)
        output_errno = errno;
    return output_errno == 0;
}

int output_finish(void) {
    output_write("", 0);
    if (output_errno == 0)
        return EXIT_STATUS_OK;
    if (output_errno > 0 && output_errno != EPIPE)
        message_error("standard output: %s", strerror(output_errno));
    output_errno = -1; /* said once */
    return EXIT_STATUS_FAILURE;
}

/* ---------------------------------------------------------------------------------- text --- */

size_t text_width(const char *text, size_t bytes) {
    size_t width = 0;
    for (size_t i = 0; i < bytes;) {
        uint32_t codepoint;
        size_t length = utf8_decode(text + i, bytes - i, &codepoint);
        int columns = length == 0 ? 1 : wcwidth((wchar_t)codepoint);
        width += columns > 0 ? (size_t)columns : 0;
        i += length == 0 ? 1 : length;
    }
    return width;
}

/* One line of words; returns nothing but ends the line. */
static void print_wrapped_line(FILE *stream, const char *line, size_t bytes, size_t indent, size_t columns,
                               bool indent_now) {
    size_t used = indent;
    bool empty = true;
    if (indent_now)
        fprintf(stream, "%*s", (int)indent, "");
    for (size_t i = 0; i < bytes;) {
        size_t blanks = strspn(line + i, " ");
        size_t word = strcspn(line + i + blanks, " \n");
        if (i + blanks + word > bytes)
            word = bytes - i - blanks;
        size_t width = text_width(line + i + blanks, word);
        if (!empty && used + blanks + width > columns) {
            fprintf(stream, "\n%*s", (int)indent, "");
            used = indent;
        } else {
            fprintf(stream, "%*s", (int)blanks, "");
            used += blanks;
        }
        fwrite(line + i + blanks, 1, word, stream);
        used += width;
        empty = false;
        i += blanks + word;
    }
    fputc('\n', stream);
}

void print_wrapped(FILE *stream, const char *text, size_t indent, size_t columns) {
    bool first = true;
    do {
        size_t bytes = strcspn(text, "\n");
        print_wrapped_line(stream, text, bytes, indent, columns, !first);
        first = false;
        text += bytes;
        if (*text == '\n')
            text++;
    } while (*text != '\0');
}

void print_text(FILE *stream, const char *text, size_t bytes) {
    if (!term_is_tty(stream)) {
        fwrite(text, 1, bytes, stream);
        return;
    }
    for (size_t i = 0; i < bytes;) {
        uint32_t codepoint;
        size_t length = utf8_decode(text + i, bytes - i, &codepoint);
        if (length == 0) {
            fputs("\xEF\xBF\xBD", stream);
            length = 1;
        } else if (codepoint < 0x20 && codepoint != '\n' && codepoint != '\t') {
            fprintf(stream, "^%c", (int)codepoint + '@');
        } else if (codepoint == 0x7F) {
            fputs("^?", stream);
        } else if (codepoint >= 0x80 && codepoint < 0xA0) { /* C1: some terminals obey these */
            fputs("\xEF\xBF\xBD", stream);
        } else {
            fwrite(text + i, 1, length, stream);
        }
        i += length;
    }
}

void append_size(strbuf *text, uint64_t bytes) {
    static const char *const units[] = {"kB", "MB", "GB", "TB"};
    if (bytes < 1000) {
        strbuf_printf(text, "%llu bytes", (unsigned long long)bytes);
        return;
    }
    double value = (double)bytes / 1000;
    size_t unit = 0;
    while (value >= 999.5 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1000;
        unit++;
    }
    strbuf_printf(text, "%.*f %s", value < 10 ? 2 : value < 100 ? 1 : 0, value, units[unit]);
}

void append_count(strbuf *text, uint64_t count) {
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)count);
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            strbuf_putc(text, ',');
        strbuf_putc(text, digits[i]);
    }
}

/* ------------------------------------------------------------------------------ progress --- */

static struct {
    const char *label; /* of the bar under way; NULL: none */
    uint64_t started_ns;
    uint64_t drawn_ns;
    bool visible;
} progress;

void progress_hide(void) {
    if (progress.visible) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    progress.visible = false;
}

void progress_clear(void) {
    progress_hide();
    progress.label = NULL;
}

enum { BAR_COLUMNS = 24 };
/* The part of `total` as blocks and as a number. */
static void append_bar(strbuf *line, uint64_t done, uint64_t total) {
    double part = (double)done / (double)total;
    size_t eighths = (size_t)(part * BAR_COLUMNS * 8);
    strbuf_puts(line, style(stderr, STYLE_ACCENT));
    for (size_t i = 0; i < eighths / 8; i++)
        strbuf_put_codepoint(line, 0x2588); /* full block */
    if (eighths % 8 > 0)
        strbuf_put_codepoint(line, (uint32_t)(0x2590 - eighths % 8)); /* eighths: U+258F down to U+2589 */
    strbuf_puts(line, style(stderr, STYLE_PLAIN));
    for (size_t i = (eighths + 7) / 8; i < BAR_COLUMNS; i++)
        strbuf_put_codepoint(line, 0xB7);
    strbuf_printf(line, " %3d %%  ", (int)(part * 100));
}

/* A line that is longer than the terminal would leave its beginning behind at every redraw. */
static void append_cut(strbuf *line, size_t used_columns, const char *text, size_t bytes) {
    size_t columns = term_columns(stderr) - 1;
    for (size_t i = 0; i < bytes;) {
        uint32_t codepoint;
        size_t length = utf8_decode(text + i, bytes - i, &codepoint);
        length = length == 0 ? 1 : length;
        used_columns += text_width(text + i, length);
        if (used_columns > columns)
            break;
        strbuf_append(line, text + i, length);
        i += length;
    }
}

void progress_describe(const char *label, uint64_t done, uint64_t total,
                       void (*describe)(void *user, strbuf *text), void *user) {
    enum { MOMENT_MS = 300, REDRAW_MS = 80 }; /* what is shorter than a moment shows no bar */
    if (!can_move_cursor(stderr))
        return;
    uint64_t now_ns = clock_now_ns();
    if (progress.label == NULL || strcmp(progress.label, label) != 0) {
        progress_clear();
        progress.label = label;
        progress.started_ns = now_ns;
    }
    if (total > 0 && done >= total) {
        progress_clear();
        return;
    }
    if (now_ns - progress.started_ns < MOMENT_MS * 1000000ull ||
        (progress.visible && now_ns - progress.drawn_ns < REDRAW_MS * 1000000ull))
        return;
    progress.visible = true;
    progress.drawn_ns = now_ns;
    strbuf line = {0}, text = {0};
    strbuf_printf(&line, "%s ", label);
    size_t used_columns = text_width(label, strlen(label)) + 1;
    if (total > 0) {
        append_bar(&line, done, total);
        used_columns += BAR_COLUMNS + 8; /* " 100 %  " */
    }
    describe(user, &text);
    append_cut(&line, used_columns, text.data == NULL ? "" : text.data, text.bytes);
    strbuf_free(&text);
    if (line.data != NULL && !line.failed)
        fprintf(stderr, "\r\033[K%s", line.data);
    fflush(stderr);
    strbuf_free(&line);
}

typedef struct progress_total {
    uint64_t total;
    bool in_bytes;
} progress_total;

static void describe_total(void *user, strbuf *text) {
    const progress_total *shown = user;
    if (shown->in_bytes)
        append_size(text, shown->total);
    else
        append_count(text, shown->total);
}

void progress_show(const char *label, uint64_t done, uint64_t total, bool in_bytes) {
    progress_total shown = {total, in_bytes};
    if (total > 0)
        progress_describe(label, done, total, describe_total, &shown);
}

/* -------------------------------------------------------------------------------- tables --- */

void table_init(table *rows, const char *alignment) {
    *rows = (table){.columns = strlen(alignment), .alignment = alignment};
}

void table_add(table *rows, const char *format, ...) {
    char cell[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(cell, sizeof cell, format, arguments);
    va_end(arguments);
    size_t bytes = utf8_complete_prefix(cell, strlen(cell)); /* a cut may fall inside a character */
    cell[bytes] = '\0';
    strbuf_append(&rows->cells, cell, bytes + 1);
    rows->cell_count++;
}

static void table_print_cell(FILE *stream, const char *cell, size_t width, bool right, bool last) {
    size_t bytes = strlen(cell);
    size_t used = text_width(cell, bytes);
    int padding = (int)(used < width ? width - used : 0);
    if (right)
        fprintf(stream, "%*s", padding, "");
    print_text(stream, cell, bytes);
    if (!right && !last)
        fprintf(stream, "%*s", padding, "");
    fputs(last ? "\n" : "  ", stream);
}

void table_print(table *rows, FILE *stream, bool heading) {
    size_t widths[TABLE_COLUMNS_MAX] = {0};
    if (rows->cells.failed)
        rows->cell_count = 0;
    const char *cell = rows->cells.data;
    for (size_t i = 0; i < rows->cell_count; i++, cell += strlen(cell) + 1) {
        size_t width = text_width(cell, strlen(cell));
        if (width > widths[i % rows->columns])
            widths[i % rows->columns] = width;
    }
    cell = rows->cells.data;
    for (size_t i = 0; i < rows->cell_count; i++, cell += strlen(cell) + 1) {
        size_t column = i % rows->columns;
        if (heading && i == 0)
            fputs(style(stream, STYLE_DIM), stream);
        if (heading && i == rows->columns)
            fputs(style(stream, STYLE_PLAIN), stream);
        table_print_cell(stream, cell, widths[column], rows->alignment[column] == 'r',
                         column + 1 == rows->columns);
    }
    if (heading && rows->cell_count <= rows->columns)
        fputs(style(stream, STYLE_PLAIN), stream);
    strbuf_free(&rows->cells);
}
