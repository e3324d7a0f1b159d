/*
 * Lines for the chat; see chat_input.h.
 *
 * While a line is edited, Ctrl-C and Ctrl-Z are ordinary keys (libedit switches the terminal's signals off)
 * that drop the line and suspend the program. While an answer is computed the terminal is in its
 * usual mode and Ctrl-C is a signal, which chat.c handles.
 */
#include "chat_input.h"

#include <histedit.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "term.h"

enum { HISTORY_LINES = 1000 };

struct chat_input {
    EditLine *editor; /* NULL: plain lines */
    History *history;
    char *history_path; /* NULL: nowhere to keep it */
    const char *const *names;
    size_t name_count;
    bool continued; /* the prompt of a second line is shown */
    bool dropped;   /* Ctrl-C: what was typed is not wanted */
    char *plain_line;
    size_t plain_capacity;
};

/* ------------------------------------------------------------------------------- editing --- */

static chat_input *input_of(EditLine *editor) {
    void *input = NULL;
    el_get(editor, EL_CLIENTDATA, &input);
    return input;
}

static char *prompt(EditLine *editor) {
    /* \001 encloses what takes no columns */
    static char first[] = "> ", next[] = ". ", first_coloured[] = "\001\033[36m\001> \001\033[0m\001",
                next_coloured[] = "\001\033[36m\001. \001\033[0m\001";
    bool coloured = *style(stdout, STYLE_ACCENT) != '\0';
    if (input_of(editor)->continued)
        return coloured ? next_coloured : next;
    return coloured ? first_coloured : first;
}

static unsigned char drop_line(EditLine *editor, int key) {
    (void)key;
    const LineInfo *line = el_line(editor);
    chat_input *input = input_of(editor);
    bool empty = line->buffer == line->lastchar && !input->continued;
    fputs(empty ? "^C (Ctrl-D or /exit leaves)" : "^C", stdout);
    input->dropped = true;
    return CC_NEWLINE;
}

static unsigned char suspend(EditLine *editor, int key) {
    (void)key;
    el_set(editor, EL_PREP_TERM, 0);
    raise(SIGTSTP);
    el_set(editor, EL_PREP_TERM, 1);
    return CC_REDISPLAY;
}

/* Completes a command at the line's beginning as far as it is certain. */
static unsigned char complete(EditLine *editor, int key) {
    (void)key;
    chat_input *input = input_of(editor);
    const LineInfo *line = el_line(editor);
    size_t typed = (size_t)(line->cursor - line->buffer);
    if (typed == 0 || line->buffer[0] != '/' || memchr(line->buffer, ' ', typed) != NULL)
        return CC_ERROR;
    const char *match = NULL;
    size_t common = 0, matches = 0;
    for (size_t i = 0; i < input->name_count; i++) {
        const char *name = input->names[i];
        if (strncmp(name, line->buffer, typed) != 0)
            continue;
        if (matches++ == 0) {
            match = name;
            common = strlen(name);
        }
        while (strncmp(name, match, common) != 0)
            common--;
    }
    if (matches == 0 || (common == typed && matches > 1))
        return CC_ERROR;
    char added[64];
    snprintf(added, sizeof added, "%.*s%s", (int)(common - typed), match + typed, matches == 1 ? " " : "");
    return el_insertstr(editor, added) == 0 ? CC_REFRESH : CC_ERROR;
}

/* ------------------------------------------------------------------------------- history --- */

/* $XDG_STATE_HOME/cento/chat_history, made private to the user. NULL: no home. */
static char *history_path_find(void) {
    strbuf folder = {0};
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (state != NULL && *state == '/')
        strbuf_puts(&folder, state);
    else if (home != NULL && *home == '/')
        strbuf_printf(&folder, "%s/.local/state", home);
    else
        return NULL;
    strbuf_puts(&folder, "/cento");
    char *path = NULL;
    if (!folder.failed) {
        for (char *slash = strchr(folder.data + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
            *slash = '\0';
            mkdir(folder.data, 0700); /* most exist; a failure shows when the file is written */
            *slash = '/';
        }
        mkdir(folder.data, 0700);
        path = path_join(folder.data, "chat_history");
    }
    strbuf_free(&folder);
    return path;
}

static void open_editor(chat_input *input) {
    input->history = history_init();
    input->editor = el_init("cento", stdin, stdout, stderr);
    if (input->editor == NULL || input->history == NULL)
        return;
    HistEvent event;
    history(input->history, &event, H_SETSIZE, HISTORY_LINES);
    history(input->history, &event, H_SETUNIQUE, 1);
    input->history_path = history_path_find();
    if (input->history_path != NULL)
        history(input->history, &event, H_LOAD, input->history_path);
    EditLine *editor = input->editor;
    el_set(editor, EL_CLIENTDATA, input);
    el_set(editor, EL_PROMPT_ESC, prompt, '\001');
    el_set(editor, EL_EDITOR, "emacs");
    el_set(editor, EL_HIST, history, input->history);
    el_set(editor, EL_ADDFN, "cento-complete", "completes a command", complete);
    el_set(editor, EL_ADDFN, "cento-drop-line", "drops the line", drop_line);
    el_set(editor, EL_ADDFN, "cento-suspend", "suspends the program", suspend);
    el_set(editor, EL_BIND, "^I", "cento-complete", NULL);
    el_set(editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(editor, NULL); /* the user's ~/.editrc */
    el_set(editor, EL_SETTY, "-d", "-isig", NULL);
    el_set(editor, EL_BIND, "^C", "cento-drop-line", NULL);
    el_set(editor, EL_BIND, "^Z", "cento-suspend", NULL);
}

chat_input *chat_input_open(const char *const *names, size_t name_count) {
    chat_input *input = mem_zalloc(1, sizeof *input);
    if (input == NULL)
        return NULL;
    input->names = names;
    input->name_count = name_count;
    if (term_is_tty(stdin) && term_is_tty(stdout))
        open_editor(input);
    return input;
}

void chat_input_close(chat_input *input) {
    if (input == NULL)
        return;
    if (input->history != NULL) {
        HistEvent event;
        if (input->history_path != NULL) {
            mode_t mask = umask(0077);
            history(input->history, &event, H_SAVE, input->history_path);
            umask(mask);
        }
        history_end(input->history);
    }
    if (input->editor != NULL)
        el_end(input->editor);
    mem_free(input->history_path);
    free(input->plain_line); /* getline's own allocation */
    mem_free(input);
}

bool chat_input_interactive(const chat_input *input) {
    return input->editor != NULL;
}

/* ------------------------------------------------------------------------------- reading --- */

/* One physical line with its newline; NULL at the end. */
static const char *read_line(chat_input *input, size_t *bytes) {
    if (input->editor != NULL) {
        int count = 0;
        input->dropped = false;
        const char *line = el_gets(input->editor, &count);
        if (input->dropped) {
            fputc('\n', stdout);
            *bytes = 0;
            return "";
        }
        if (line == NULL || count <= 0)
            return NULL;
        *bytes = (size_t)count;
        return line;
    }
    ssize_t count = getline(&input->plain_line, &input->plain_capacity, stdin);
    if (count < 0)
        return NULL;
    *bytes = (size_t)count;
    return input->plain_line;
}

bool chat_input_read(chat_input *input, strbuf *line) {
    strbuf_clear(line);
    input->continued = false;
    for (;;) {
        size_t bytes;
        const char *part = read_line(input, &bytes);
        if (part == NULL)
            return input->continued;
        if (input->dropped) {
            strbuf_clear(line);
            strbuf_append(line, "", 0);
            return true;
        }
        if (bytes > 0 && part[bytes - 1] == '\n')
            bytes--;
        if (bytes > 0 && part[bytes - 1] == '\r')
            bytes--;
        bool goes_on = bytes > 0 && part[bytes - 1] == '\\';
        strbuf_append(line, part, bytes - goes_on);
        if (!goes_on)
            break;
        strbuf_putc(line, '\n');
        input->continued = true;
    }
    if (input->editor != NULL && line->bytes > 0 && strchr(line->data, '\n') == NULL) {
        HistEvent event;
        history(input->history, &event, H_ENTER, line->data);
    }
    return true;
}
