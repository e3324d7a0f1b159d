/*
 * Inside the chat template interpreter (chat_template.h is its public face). The way of a template:
 *
 *   source --template_lexer--> tokens --template_parser, template_expression--> nodes
 *          --template_scope--> every name is (frames up, slot) --template_execute, template_eval--> text
 *
 * Everything compiled lives in one arena and is immutable; everything made while rendering lives in a
 * second one that ends with the render. Every text in either is valid UTF-8. Text under construction
 * (captured blocks, joined strings) is built at the end of the output buffer and cut off again, so
 * that no error path has anything to release.
 *
 * What is meant here by "Python" and "Jinja": Python 3, Jinja2 3.1 in transformers' sandbox.
 */
#ifndef CENTO_TEXT_TEMPLATE_H
#define CENTO_TEXT_TEMPLATE_H

#include <time.h>

#include "base/arena.h"
#include "base/strmap.h"
#include "chat_template.h"

/* ------------------------------------------------------------------------------- values ---- */

typedef struct string {
    const char *data; /* valid UTF-8 */
    size_t bytes;
    size_t characters; /* code points; equal to bytes when all is ASCII */
    bool markup;       /* marked as HTML by `safe` or `escape`: + escapes what is added to it */
} string;

typedef enum value_type {
    VALUE_MISSING, /* no value at all: an argument not given, a slot not yet set */
    VALUE_UNDEFINED,
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_FLOAT,
    VALUE_TEXT,
    VALUE_LIST,
    VALUE_TUPLE,
    VALUE_DICT,
    VALUE_VIEW,     /* dict.keys(), .values(), .items() */
    VALUE_RANGE,    /* range() */
    VALUE_ITERATOR, /* what map, select, … give: can be gone through once */
    VALUE_NAMESPACE,
    VALUE_MACRO,
    VALUE_FUNCTION, /* a global: range, dict, … */
    VALUE_METHOD,   /* a function with its object: text.upper */
    VALUE_LOOP,     /* the loop variable */
    VALUE_CYCLER,
    VALUE_JOINER,
} value_type;

typedef struct value {
    value_type type;
    union {
        bool boolean;
        int64_t integer;
        double real;
        const string *text;
        const struct list *list; /* also tuples */
        struct dict *dict;       /* also namespaces */
        const struct view *view;
        const struct range *range;
        struct iterator *iterator;
        const struct macro_value *macro;
        const struct builtin *function;
        const struct method *method;
        struct loop_state *loop;
        struct cycler *cycler;
        struct joiner *joiner;
        const struct undefined *undefined;
    } as;
} value;

typedef struct list {
    const value *items;
    size_t count;
    bool group; /* a tuple of groupby: item 0 is also .grouper, item 1 .list */
} list;

typedef struct dict_entry {
    value key;
    value item;
    uint64_t hash;
} dict_entry;

typedef struct dict {
    dict_entry *entries; /* in order of insertion */
    size_t count, capacity;
    uint32_t *index; /* (index_capacity) entry number + 1, 0 empty; NULL while there are few entries */
    size_t index_capacity;
} dict;

typedef enum view_kind { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS } view_kind;

typedef struct view {
    const dict *dict;
    view_kind kind;
} view;

typedef struct range {
    int64_t start, stop, step;
    size_t count;
} range;

typedef struct iterator {
    const value *items;
    size_t count, next;
    const char *type_name; /* as Python calls it */
} iterator;

/* Why a value is undefined; the message is made only when it is needed. */
typedef struct undefined {
    const char *hint;        /* the whole message, or NULL */
    const char *object_type; /* "dict object": what has no such attribute; NULL: a variable */
    value name;              /* of the variable, attribute (text) or element */
} undefined;

typedef struct cycler {
    const value *items;
    size_t count, position;
} cycler;

typedef struct joiner {
    value separator;
    bool used;
} joiner;

typedef struct method {
    value self;
    const struct builtin *function;
} method;

/* The arguments of one call. */
typedef struct keyword_arg {
    const string *name;
    value item;
} keyword_arg;

typedef struct call_args {
    const value *positional;
    size_t count;
    const keyword_arg *keywords;
    size_t keyword_count;
} call_args;

typedef struct render render;

/* A filter (self: the value filtered), a test, a method (self: its object) or a global. */
typedef cento_status (*builtin_function)(render *r, value self, const call_args *arguments, value *result);

typedef struct builtin {
    const char *name;
    /* "old new count?": names in order, those with ? may be missing (VALUE_MISSING). "/" at the start:
     * by position only. The function then gets exactly as many positional arguments as there are
     * names. NULL: it gets the call as it is. */
    const char *parameters;
    builtin_function function; /* NULL: known to Jinja, refused here */
} builtin;

/* -------------------------------------------------------------------------------- nodes ---- */

typedef enum node_type {
    /* expressions */
    NODE_CONSTANT,
    NODE_NAME,
    NODE_LIST,
    NODE_TUPLE,
    NODE_DICT,        /* items: key, value, key, value, … */
    NODE_NEGATE,      /* pair.left */
    NODE_POSITIVE,    /* pair.left */
    NODE_NOT,         /* pair.left */
    NODE_AND,         /* pair */
    NODE_OR,          /* pair */
    NODE_ARITHMETIC,  /* pair and operation */
    NODE_CONCATENATE, /* list */
    NODE_COMPARE,     /* list: the first is an expression, the others NODE_OPERAND */
    NODE_OPERAND,     /* pair.left and operation */
    NODE_CONDITION,   /* condition */
    NODE_ATTRIBUTE,   /* attribute */
    NODE_ITEM,        /* pair: object, index */
    NODE_SLICE,       /* slice */
    NODE_CALL,        /* call */
    NODE_FILTER,      /* call; callee: what is filtered, NULL: the block's text */
    NODE_TEST,        /* call; callee: what is tested */
    NODE_KEYWORD,     /* attribute: name and value */
    /* targets of assignments only */
    NODE_NAMESPACE_ATTRIBUTE, /* attribute; object: a name */
    /* statements */
    NODE_OUTPUT,       /* list of expressions */
    NODE_SET,          /* pair: target, value */
    NODE_SET_BLOCK,    /* block; target and filter */
    NODE_FILTER_BLOCK, /* block; filter */
    NODE_FOR,          /* loop */
    NODE_IF,           /* condition; then and otherwise are bodies */
    NODE_WITH,         /* block; assignments: NODE_SET */
    NODE_MACRO,        /* macro */
    NODE_CALL_BLOCK,   /* macro; call */
    NODE_BREAK,
    NODE_CONTINUE,
} node_type;

typedef enum operation {
    OPERATION_NONE,
    OPERATION_ADD,
    OPERATION_SUBTRACT,
    OPERATION_MULTIPLY,
    OPERATION_DIVIDE,
    OPERATION_FLOOR_DIVIDE,
    OPERATION_MODULO,
    OPERATION_POWER,
    OPERATION_EQUAL,
    OPERATION_NOT_EQUAL,
    OPERATION_LESS,
    OPERATION_LESS_EQUAL,
    OPERATION_GREATER,
    OPERATION_GREATER_EQUAL,
    OPERATION_IN,
    OPERATION_NOT_IN,
} operation;

typedef enum name_use { NAME_LOAD, NAME_STORE, NAME_PARAMETER } name_use;

typedef struct node node;

/* Where a slot of a frame gets its value when the frame is entered. */
typedef enum slot_source {
    SLOT_PARAMETER, /* from whoever enters the frame */
    SLOT_CONTEXT,   /* the context's variable or the global of this name */
    SLOT_OUTER,     /* a copy of a slot of a frame further out */
    SLOT_NOTHING,
} slot_source;

typedef struct slot {
    const string *name;
    slot_source source;
    uint16_t hops, outer; /* SLOT_OUTER: frames up from this one, slot there */
} slot;

/* The variables of one frame: the template, a loop's body, a macro, … */
typedef struct layout {
    slot *slots; /* (count) */
    size_t count;
} layout;

typedef struct node_call {
    node *callee;
    const builtin *function; /* of a filter or test; NULL: unknown, an error when it is reached */
    const string *name;      /* of a filter or test */
    node *positional;
    node *keywords; /* NODE_KEYWORD */
    node *star;     /* f(*star), or NULL */
    node *double_star;
    node *previous_unknown; /* of compiler.unknown */
} node_call;

typedef struct node_loop {
    node *target, *iterable, *test;
    node *body, *otherwise;
    layout *body_layout, *otherwise_layout, *test_layout;
    node *test_target; /* the target again, with the slots of the test's frame */
    uint16_t loop_slot;
    bool recursive;
} node_loop;

typedef struct node_macro {
    const string *name; /* NULL: a call block's */
    node *target;       /* the name that is set, or NULL */
    node *parameters;   /* NODE_NAME; the last default_count of them have defaults */
    node *defaults;
    size_t parameter_count, default_count;
    node *body;
    node *call; /* of a call block; NULL: {% generation %}, the body is simply rendered */
    layout *layout;
    bool uses_caller, uses_keywords, uses_rest, declares_caller;
    uint16_t caller_slot, keywords_slot, rest_slot;
} node_macro;

typedef struct node_block {
    node *target;      /* of a block set */
    node *filter;      /* innermost NODE_FILTER has no callee; may be NULL in a block set */
    node *assignments; /* of a with block */
    node *body;
    layout *layout;
} node_block;

struct node {
    uint8_t type;      /* node_type */
    uint8_t operation; /* operation */
    uint16_t depth;    /* of the expression tree below */
    uint32_t position; /* byte offset in the source */
    node *next;        /* in its list */
    union {
        value constant;
        struct {
            const string *name;
            node *previous; /* the name parsed before this one, anywhere */
            uint16_t hops, slot;
            uint8_t use; /* name_use */
        } name;
        struct {
            node *items;
            size_t count;
        } list;
        struct {
            node *left, *right;
        } pair;
        struct {
            node *test, *then, *otherwise;
        } condition;
        struct {
            node *object;
            const string *name;
        } attribute;
        struct {
            node *object, *start, *stop, *step;
        } slice;
        node_call *call;
        node_loop *loop;
        node_macro *macro;
        node_block *block;
    } as;
};

/* ------------------------------------------------------------------------------ compiling ---- */

typedef enum token_type {
    TOKEN_DATA,
    TOKEN_VARIABLE_BEGIN,
    TOKEN_VARIABLE_END,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING,
    TOKEN_INTEGER,
    TOKEN_FLOAT,
    TOKEN_OPERATOR, /* spelled[] */
    TOKEN_END,
} token_type;

typedef struct token {
    token_type type;
    uint32_t position;
    char spelled[3]; /* of an operator: "+", "//" */
    value item;      /* text of data, names and strings; numbers */
} token;

struct chat_template {
    arena memory; /* holds everything below */
    const char *where;
    const char *source; /* with \n as the only line break, its last one removed */
    size_t bytes;
    node *body;
    layout *layout;
};

typedef struct compiler {
    chat_template *compiled;
    arena *memory;
    cento_error *error;
    token *tokens; /* owned */
    size_t token_count, token_capacity;
    size_t next;            /* token */
    strmap names;           /* name → number */
    const string **name_of; /* number → text; owned */
    size_t name_count, name_capacity;
    node *last_name; /* head of the chain name.previous */
    uint32_t depth;  /* of nested expressions */
    uint32_t statement_depth;
    uint32_t loop_depth; /* loops around, within the innermost macro */
    node *unknown;       /* head of the chain of filters and tests that are not known */
} compiler;

cento_status template_tokenize(compiler *c);
cento_status template_parse(compiler *c);
cento_status template_resolve_names(compiler *c);

void compile_error(compiler *c, size_t position, const char *format, ...) CENTO_PRINTF(3, 4);
void compile_memory_error(compiler *c);
/* Visibly not CENTO_OK: the compiler then knows what TRY lets through. */
#define compile_fail(c, position, ...) (compile_error(c, position, __VA_ARGS__), CENTO_TEMPLATE)
static inline cento_status compile_memory(compiler *c) {
    compile_memory_error(c);
    return c->memory->limit_reached ? CENTO_TEMPLATE : CENTO_OUT_OF_MEMORY;
}
void *compile_alloc(compiler *c, size_t count, size_t size); /* NULL: return compile_memory(c) */
/* The one text for this name: names are equal when their texts are the same object. */
cento_status compile_name(compiler *c, const char *name, size_t bytes, const string **result);
cento_status compile_text(compiler *c, const char *data, size_t bytes, value *result);

/* Shared between template_parser.c and template_expression.c. */
typedef struct node_list {
    node *first, *last;
    size_t count;
} node_list;

void node_list_add(node_list *items, node *item);
const token *compile_token(const compiler *c); /* the current one */
bool token_is(const token *t, const char *spelled);
bool token_is_name(const token *t, const char *name);
bool compile_skip(compiler *c, const char *spelled); /* an operator; true if it was there */
bool compile_skip_name(compiler *c, const char *name);
cento_status compile_expect(compiler *c, const char *spelled);
cento_status compile_unexpected(compiler *c, const char *expected);
cento_status compile_node(compiler *c, node_type type, size_t position, node **result);

/* Fails when a filter or test was met since `known` was the last unknown one. */
cento_status compile_check_functions(compiler *c, const node *known);

cento_status parse_expression(compiler *c, bool with_condition, node **result);
/* end: a name that ends the tuple, or NULL */
cento_status parse_tuple(compiler *c, bool with_condition, const char *end, node **result);
cento_status parse_target(compiler *c, const char *end, bool with_namespace, node **result);
cento_status parse_name_target(compiler *c, name_use use, node **result);
cento_status parse_filter_chain(compiler *c, node *input, bool start_inline, node **result);

/* ------------------------------------------------------------------------------ rendering ---- */

typedef struct template_options {
    uint64_t steps_max; /* roughly: nodes evaluated plus bytes/16 of text made */
    size_t output_bytes_max;
    size_t memory_bytes_max;
    /* The local time for strftime_now; NULL: the system's. */
    void (*local_time)(struct tm *now, int *microseconds);
} template_options;

extern const template_options template_defaults;

cento_status template_render(const chat_template *compiled, const json_t *context,
                             const template_options *options, strbuf *output, cento_error *error);

typedef struct frame {
    struct frame *outer; /* lexically around this one */
    const layout *layout;
    value slots[];
} frame;

typedef struct macro_value {
    const node_macro *definition;
    frame *outer; /* where it was defined */
} macro_value;

/* A loop's condition is asked only when the next item is needed, since the body may have changed a
 * namespace that it reads. */
typedef struct loop_state {
    const value *source; /* (source_count) what is gone through */
    size_t source_count, source_next;
    value *accepted; /* (source_count) those that passed the condition; source if there is none */
    size_t accepted_count;
    size_t index;  /* of the current item among the accepted */
    int64_t depth; /* of recursion, 0 outermost */
    const node *definition;
    frame *outer, *test_frame;
    value changed; /* the arguments of the last changed(), as a tuple */
} loop_state;

typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

struct render {
    const chat_template *compiled;
    const template_options *options;
    arena memory;
    strbuf *output;     /* ends in the text under construction */
    size_t output_base; /* its bytes when rendering began */
    cento_error *error;
    uint64_t steps;
    uint32_t depth;
    uint32_t position; /* in the source: where an error would be */
    dict *context;
    flow flow;
};

void render_error(render *r, const char *format, ...) CENTO_PRINTF(2, 3);
void render_memory_error(render *r);
/* Visibly not CENTO_OK: the compiler then knows what TRY lets through. */
#define render_fail(r, ...) (render_error(r, __VA_ARGS__), CENTO_TEMPLATE)
static inline cento_status render_memory(render *r) {
    render_memory_error(r);
    return r->memory.limit_reached ? CENTO_TEMPLATE : CENTO_OUT_OF_MEMORY;
}
void *render_alloc(render *r, size_t count, size_t size); /* NULL: return render_memory(r) */
cento_status render_step(render *r, size_t bytes);        /* counts one step and bytes / 16 */
cento_status render_enter(render *r); /* one level deeper; render_leave when it succeeded */
static inline void render_leave(render *r) {
    r->depth--;
}

/* Text under construction: what is appended to r->output after render_begin becomes a value. */
size_t render_begin(const render *r);
cento_status render_end(render *r, size_t begin, value *result);
cento_status render_append(render *r, const char *data, size_t bytes);

cento_status template_execute(render *r, frame *f, const node *body);
cento_status template_frame(render *r, const layout *slots, frame *outer, frame **result);
cento_status template_frame_enter(render *r, frame *f);
cento_status template_assign(render *r, frame *f, const node *target, value item);
cento_status template_loop(render *r, frame *f, const node *n, value iterable, int64_t depth);
/* Whether an item comes after the current one; how many there are in all. */
cento_status template_loop_peek(render *r, loop_state *loop, bool *more);
cento_status template_loop_length(render *r, loop_state *loop, size_t *length);
cento_status template_eval(render *r, frame *f, const node *n, value *result);
/* input: what goes into a filter whose node has no callee */
cento_status template_eval_filter(render *r, frame *f, const node *n, const value *input, value *result);
cento_status template_call(render *r, value callee, const call_args *arguments, value *result);
cento_status template_call_node(render *r, frame *f, const node *n, const value *caller, value *result);
cento_status builtin_call(render *r, const builtin *function, value self, const call_args *arguments,
                          value *result);

const builtin *template_filter(const char *name, size_t bytes);
const builtin *template_test(const char *name, size_t bytes);
const builtin *template_global(const char *name, size_t bytes);
/* Applies by name, as map and select do. */
cento_status template_apply_filter(render *r, value name, value self, const call_args *arguments,
                                   value *result);
cento_status template_apply_test(render *r, value name, value self, const call_args *arguments, bool *result);

/* ---------------------------------------------------------------------------- operations ---- */

/* template_value.c */
value value_none(void);
value value_bool(bool boolean);
value value_int(int64_t integer);
value value_float(double real);
cento_status value_text(render *r, const char *data, size_t bytes, value *result); /* copies */
cento_status value_text_view(render *r, const char *data, size_t bytes, bool markup, value *result);
cento_status value_sequence(render *r, value_type type, const value *items, size_t count, value *result);
cento_status value_iterator(render *r, const char *type_name, const value *items, size_t count,
                            value *result);
cento_status value_undefined(render *r, const char *hint, const char *object_type, value name, value *result);
cento_status value_undefined_fail(render *r, value undefined_value);
cento_status value_from_json(render *r, const json_t *json, value *result);
const char *value_type_name(value v);   /* as Python's type(v).__name__ */
const char *value_object_type(value v); /* "dict object" */
cento_status value_truth(render *r, value v, bool *truth);
cento_status value_equal(render *r, value a, value b, bool *equal);
bool value_same(value a, value b); /* Python's `is` */
cento_status value_compare(render *r, operation operator_, value a, value b, bool *result);
cento_status value_contains(render *r, value container, value item, bool *result);
cento_status value_length(render *r, value v, size_t *length);
/* All items; an iterator is used up. The items may be those of the value itself. */
cento_status value_items(render *r, value v, const value **items, size_t *count);
bool value_is_iterable(value v);
bool value_as_int(value v, int64_t *integer); /* of ints and bools */
bool value_as_real(value v, double *real);    /* of ints, bools and floats */
bool text_is(const string *t, const char *expected);
size_t text_offset(const string *t, size_t character); /* byte offset of a character */

/* template_dict.c */
cento_status value_hash(render *r, value v, uint64_t *hash);
cento_status dict_new(render *r, size_t capacity, dict **result);
cento_status dict_set(render *r, dict *d, value key, value item);
cento_status dict_get(render *r, const dict *d, value key, const value **item); /* NULL: not there */
const value *dict_get_text(const dict *d, const char *key, size_t bytes);

/* template_print.c */
cento_status value_print(render *r, value v); /* str() */
cento_status value_repr(render *r, value v);
cento_status value_to_text(render *r, value v, value *result); /* str(), a text as it is */
size_t float_repr(double real, char buffer[32]);
double parse_float(const char *digits, size_t bytes); /* in the C locale; digits: already checked */

typedef struct json_style {
    const char *indent; /* NULL: all on one line */
    size_t indent_bytes;
    const char *item_separator, *key_separator;
    size_t item_separator_bytes, key_separator_bytes;
    bool ascii, sorted;
} json_style;

cento_status value_json(render *r, value v, const json_style *style, size_t level);

/* template_operator.c */
cento_status value_arithmetic(render *r, operation operator_, value a, value b, value *result);
cento_status value_negate(render *r, value v, bool negative, value *result);
cento_status value_attribute(render *r, value object, const string *name, value *result);
cento_status value_item(render *r, value object, value index, value *result);
cento_status value_slice(render *r, value object, value start, value stop, value step, value *result);
/* A path like "function.name" or an integer, as the attribute= arguments of filters have it. */
cento_status value_path(render *r, value object, value path, value fallback, value *result);
cento_status text_escape_html(render *r, value v, value *result);

/* template_method.c; NULL: the type has no such method. */
const builtin *template_method(value self, const char *name, size_t bytes);
extern const builtin loop_cycle, loop_changed, cycler_next, cycler_reset;

/* The text made since begin, marked as HTML if `like` is. */
cento_status text_finish(render *r, size_t begin, const string *like, value *result);

/* template_case.c: methods */
cento_status text_upper(render *r, value self, const call_args *arguments, value *result);
cento_status text_lower(render *r, value self, const call_args *arguments, value *result);
cento_status text_title(render *r, value self, const call_args *arguments, value *result);
cento_status text_capitalize(render *r, value self, const call_args *arguments, value *result);
cento_status text_swapcase(render *r, value self, const call_args *arguments, value *result);
cento_status text_isalnum(render *r, value self, const call_args *arguments, value *result);
cento_status text_isalpha(render *r, value self, const call_args *arguments, value *result);
cento_status text_isascii(render *r, value self, const call_args *arguments, value *result);
cento_status text_isdecimal(render *r, value self, const call_args *arguments, value *result);
cento_status text_isdigit(render *r, value self, const call_args *arguments, value *result);
cento_status text_isnumeric(render *r, value self, const call_args *arguments, value *result);
cento_status text_isspace(render *r, value self, const call_args *arguments, value *result);
cento_status text_isprintable(render *r, value self, const call_args *arguments, value *result);
cento_status text_isupper(render *r, value self, const call_args *arguments, value *result);
cento_status text_islower(render *r, value self, const call_args *arguments, value *result);

/* template_format.c */
cento_status text_percent(render *r, value format, value arguments, value *result); /* format % arguments */
cento_status text_format(render *r, value self, const call_args *arguments, value *result); /* str.format */

/* template_convert.c: int(), float(), round() and sorting */
cento_status convert_int(render *r, value v, int64_t base, bool *converted, int64_t *integer);
cento_status convert_float(render *r, value v, bool *converted, double *real);
cento_status convert_round(render *r, value v, int64_t places, value *result);
/* Sorts items by keys (which stay as they are), stable. */
cento_status value_sort(render *r, value *items, const value *keys, size_t count, bool reverse);

/* template_filter.c, template_filter_text.c, template_filter_sequence.c: tables of filters */
extern const builtin filters_text[], filters_sequence[];

/* template_unicode.c: as Python's str methods see characters */
bool character_is_space(uint32_t c);
bool character_is_line_break(uint32_t c);
bool character_is_alpha(uint32_t c);
bool character_is_decimal(uint32_t c);
bool character_is_digit(uint32_t c);
bool character_is_numeric(uint32_t c);
bool character_is_upper(uint32_t c);
bool character_is_lower(uint32_t c);
bool character_is_title(uint32_t c);
bool character_is_printable(uint32_t c);
bool character_is_identifier(uint32_t c, bool first);
size_t character_upper(uint32_t c, uint32_t mapped[3]);
size_t character_title(uint32_t c, uint32_t mapped[3]);
size_t character_lower(uint32_t c, uint32_t mapped[3]);
size_t space_bytes_before(const char *data, size_t bytes); /* length of the trailing white space */
size_t space_bytes_after(const char *data, size_t bytes);  /* length of the leading white space */
size_t utf8_count(const char *data, size_t bytes);

#endif
