/*
 * Statements to nodes. Every construct of Jinja that is not here is refused while compiling, with its
 * place: templates that extend, include or import others, blocks, autoescape, extensions that
 * transformers does not switch on.
 */
#include "template.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define STATEMENT_DEPTH_MAX 100

/* ----------------------------------------------------------------------------- support ---- */

void compile_memory_error(compiler *c) {
    if (c->memory->limit_reached)
        error_set(c->error, CENTO_TEMPLATE, "%s: the template is too large", c->compiled->where);
    else
        error_memory(c->error, c->compiled->bytes);
}

void *compile_alloc(compiler *c, size_t count, size_t size) {
    return arena_alloc(c->memory, count, size);
}

cento_status compile_text(compiler *c, const char *data, size_t bytes, value *result) {
    string *made = compile_alloc(c, 1, sizeof *made);
    char *copy = made == NULL ? NULL : arena_copy(c->memory, data, bytes);
    if (copy == NULL)
        return compile_memory(c);
    *made = (string){.data = copy, .bytes = bytes, .characters = utf8_count(copy, bytes)};
    *result = (value){.type = VALUE_TEXT, .as.text = made};
    return CENTO_OK;
}

cento_status compile_name(compiler *c, const char *name, size_t bytes, const string **result) {
    uint32_t number = strmap_get(&c->names, name, bytes);
    if (number != STRMAP_MISSING) {
        *result = c->name_of[number];
        return CENTO_OK;
    }
    value made;
    TRY(compile_text(c, name, bytes, &made));
    if (!mem_grow((void **)&c->name_of, &c->name_capacity, c->name_count + 1, sizeof *c->name_of))
        return compile_memory(c);
    TRY(strmap_set(&c->names, made.as.text->data, bytes, (uint32_t)c->name_count, c->error));
    c->name_of[c->name_count++] = made.as.text;
    *result = made.as.text;
    return CENTO_OK;
}

void node_list_add(node_list *items, node *item) {
    if (items->last == NULL)
        items->first = item;
    else
        items->last->next = item;
    items->last = item;
    items->count++;
}

const token *compile_token(const compiler *c) {
    return &c->tokens[c->next < c->token_count ? c->next : c->token_count - 1];
}

bool token_is(const token *t, const char *spelled) {
    return t->type == TOKEN_OPERATOR && strcmp(t->spelled, spelled) == 0;
}

bool token_is_name(const token *t, const char *name) {
    return t->type == TOKEN_NAME && text_is(t->item.as.text, name);
}

bool compile_skip(compiler *c, const char *spelled) {
    bool found = token_is(compile_token(c), spelled);
    c->next += found;
    return found;
}

bool compile_skip_name(compiler *c, const char *name) {
    bool found = token_is_name(compile_token(c), name);
    c->next += found;
    return found;
}

cento_status compile_unexpected(compiler *c, const char *expected) {
    const token *t = compile_token(c);
    const char *found = "";
    switch (t->type) {
    case TOKEN_DATA:
        found = "text";
        break;
    case TOKEN_VARIABLE_BEGIN:
        found = "{{";
        break;
    case TOKEN_VARIABLE_END:
        found = "}}";
        break;
    case TOKEN_BLOCK_BEGIN:
        found = "{%";
        break;
    case TOKEN_BLOCK_END:
        found = "%}";
        break;
    case TOKEN_NAME:
        found = t->item.as.text->data;
        break;
    case TOKEN_STRING:
        found = "a string";
        break;
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
        found = "a number";
        break;
    case TOKEN_OPERATOR:
        found = t->spelled;
        break;
    case TOKEN_END:
        found = "the end of the template";
        break;
    }
    return compile_fail(c, t->position, "expected %s, found '%.100s'", expected, found);
}

cento_status compile_expect(compiler *c, const char *spelled) {
    if (compile_skip(c, spelled))
        return CENTO_OK;
    char expected[8];
    snprintf(expected, sizeof expected, "'%s'", spelled);
    return compile_unexpected(c, expected);
}

cento_status compile_node(compiler *c, node_type type, size_t position, node **result) {
    *result = compile_alloc(c, 1, sizeof **result);
    if (*result == NULL)
        return compile_memory(c);
    (*result)->type = (uint8_t)type;
    (*result)->position = (uint32_t)position;
    (*result)->depth = 1;
    return CENTO_OK;
}

/* --------------------------------------------------------------------------- statements ---- */

/* Body up to {% end %} with one of these names, which stays the current token. NULL: to the end of the
 * template. */
static cento_status parse_body(compiler *c, const char *const *ends, node **result);

static cento_status block_end(compiler *c) {
    if (compile_token(c)->type != TOKEN_BLOCK_END)
        return compile_unexpected(c, "%}");
    c->next++;
    return CENTO_OK;
}

/* The rest of an opening tag and its body. */
static cento_status parse_block_body(compiler *c, const char *const *ends, node **body) {
    compile_skip(c, ":");
    TRY(block_end(c));
    return parse_body(c, ends, body);
}

/* A body with variables of its own: what is unknown in it is an error, whatever is around. */
static cento_status parse_framed_body(compiler *c, const char *const *ends, node **body) {
    node *known = c->unknown;
    TRY(parse_block_body(c, ends, body));
    return compile_check_functions(c, known);
}

/* The same up to {% end %}, which is consumed but for its "%}". */
static cento_status parse_closed_body(compiler *c, const char *end, node **body) {
    const char *const ends[] = {end, NULL};
    TRY(parse_framed_body(c, ends, body));
    c->next++;
    return CENTO_OK;
}

static cento_status parse_if(compiler *c, size_t position, node **result) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    node *known = c->unknown;
    node **place = result;
    for (;;) {
        node *branch;
        TRY(compile_node(c, NODE_IF, position, &branch));
        TRY(parse_tuple(c, false, NULL, &branch->as.condition.test));
        TRY(parse_block_body(c, ends, &branch->as.condition.then));
        *place = branch;
        place = &branch->as.condition.otherwise;
        position = compile_token(c)->position;
        if (compile_skip_name(c, "elif"))
            continue;
        if (compile_skip_name(c, "else"))
            TRY(parse_block_body(c, last, place));
        break;
    }
    if (!compile_skip_name(c, "endif"))
        return compile_unexpected(c, "endif");
    c->unknown = known;
    return CENTO_OK;
}

/* The names since `mark`: `loop` must not be assigned to inside of a loop. */
static cento_status check_loop_names(compiler *c, const node *mark) {
    for (const node *n = c->last_name; n != mark; n = n->as.name.previous)
        if (n->as.name.use == NAME_STORE && text_is(n->as.name.name, "loop"))
            return compile_fail(c, n->position,
                                "the special variable 'loop' cannot be assigned to in a loop");
    return CENTO_OK;
}

static cento_status parse_for(compiler *c, size_t position, node **result) {
    static const char *const ends[] = {"endfor", "else", NULL};
    const node *mark = c->last_name;
    node_loop *loop = compile_alloc(c, 1, sizeof *loop);
    if (loop == NULL)
        return compile_memory(c);
    TRY(compile_node(c, NODE_FOR, position, result));
    (*result)->as.loop = loop;
    TRY(parse_target(c, "in", false, &loop->target));
    if (!compile_skip_name(c, "in"))
        return compile_unexpected(c, "in");
    TRY(parse_tuple(c, false, "recursive", &loop->iterable));
    node *known = c->unknown;
    if (compile_skip_name(c, "if"))
        TRY(parse_expression(c, true, &loop->test));
    loop->recursive = compile_skip_name(c, "recursive");
    c->loop_depth++;
    TRY(parse_block_body(c, ends, &loop->body));
    c->loop_depth--;
    if (compile_skip_name(c, "else")) {
        static const char *const last[] = {"endfor", NULL};
        uint32_t loops = c->loop_depth;
        if (loop->recursive) /* becomes a function of its own */
            c->loop_depth = 0;
        TRY(parse_block_body(c, last, &loop->otherwise));
        c->loop_depth = loops;
    }
    c->next++;
    TRY(compile_check_functions(c, known));
    return check_loop_names(c, mark);
}

static cento_status parse_set(compiler *c, size_t position, node **result) {
    node *target, *assigned;
    TRY(parse_target(c, NULL, true, &target));
    if (compile_skip(c, "=")) {
        TRY(parse_tuple(c, true, NULL, &assigned));
        TRY(compile_node(c, NODE_SET, position, result));
        (*result)->as.pair.left = target;
        (*result)->as.pair.right = assigned;
        return CENTO_OK;
    }
    node_block *block = compile_alloc(c, 1, sizeof *block);
    if (block == NULL)
        return compile_memory(c);
    TRY(compile_node(c, NODE_SET_BLOCK, position, result));
    (*result)->as.block = block;
    block->target = target;
    TRY(parse_filter_chain(c, NULL, false, &block->filter));
    return parse_closed_body(c, "endset", &block->body);
}

static cento_status parse_filter_block(compiler *c, size_t position, node **result) {
    node_block *block = compile_alloc(c, 1, sizeof *block);
    if (block == NULL)
        return compile_memory(c);
    TRY(compile_node(c, NODE_FILTER_BLOCK, position, result));
    (*result)->as.block = block;
    TRY(parse_filter_chain(c, NULL, true, &block->filter));
    return parse_closed_body(c, "endfilter", &block->body);
}

static cento_status parse_with(compiler *c, size_t position, node **result) {
    node_list assignments = {0};
    node_block *block = compile_alloc(c, 1, sizeof *block);
    if (block == NULL)
        return compile_memory(c);
    TRY(compile_node(c, NODE_WITH, position, result));
    (*result)->as.block = block;
    while (compile_token(c)->type != TOKEN_BLOCK_END) {
        if (assignments.first != NULL)
            TRY(compile_expect(c, ","));
        node *assignment;
        TRY(compile_node(c, NODE_SET, compile_token(c)->position, &assignment));
        TRY(parse_target(c, NULL, false, &assignment->as.pair.left));
        TRY(compile_expect(c, "="));
        TRY(parse_expression(c, true, &assignment->as.pair.right));
        node_list_add(&assignments, assignment);
    }
    block->assignments = assignments.first;
    return parse_closed_body(c, "endwith", &block->body);
}

static cento_status parse_print(compiler *c, size_t position, node **result) {
    node_list items = {0};
    TRY(compile_node(c, NODE_OUTPUT, position, result));
    while (compile_token(c)->type != TOKEN_BLOCK_END) {
        if (items.first != NULL)
            TRY(compile_expect(c, ","));
        node *item;
        TRY(parse_expression(c, true, &item));
        node_list_add(&items, item);
    }
    (*result)->as.list.items = items.first;
    (*result)->as.list.count = items.count;
    return CENTO_OK;
}

/* "(a, b=1)" */
static cento_status parse_signature(compiler *c, node_macro *macro) {
    node_list parameters = {0}, defaults = {0};
    TRY(compile_expect(c, "("));
    while (!compile_skip(c, ")")) {
        if (parameters.first != NULL)
            TRY(compile_expect(c, ","));
        node *parameter;
        TRY(parse_name_target(c, NAME_PARAMETER, &parameter));
        for (const node *other = parameters.first; other != NULL; other = other->next)
            if (other->as.name.name == parameter->as.name.name)
                return compile_fail(c, parameter->position, "the parameter '%s' is repeated",
                                    parameter->as.name.name->data);
        if (compile_skip(c, "=")) {
            node *default_value;
            TRY(parse_expression(c, true, &default_value));
            node_list_add(&defaults, default_value);
        } else if (defaults.first != NULL) {
            return compile_fail(c, parameter->position,
                                "a parameter without default follows one with a default");
        }
        node_list_add(&parameters, parameter);
    }
    macro->parameters = parameters.first;
    macro->parameter_count = parameters.count;
    macro->defaults = defaults.first;
    macro->default_count = defaults.count;
    return CENTO_OK;
}

/* Which of the special variables the names since `mark` ask for. As in Jinja a name that is assigned to
 * somewhere is not special. */
static cento_status find_special_names(compiler *c, node *n, const node *mark) {
    static const char *const special[] = {"caller", "kwargs", "varargs"};
    node_macro *macro = n->as.macro;
    bool *const uses[] = {&macro->uses_caller, &macro->uses_keywords, &macro->uses_rest};
    for (size_t i = 0; i < 3; i++) {
        const string *name;
        bool loaded = false, stored = false;
        TRY(compile_name(c, special[i], strlen(special[i]), &name));
        for (const node *other = c->last_name; other != mark; other = other->as.name.previous)
            if (other->as.name.name == name)
                *(other->as.name.use == NAME_LOAD ? &loaded : &stored) = true;
        *uses[i] = loaded && !stored;
        size_t index = 0;
        for (const node *parameter = macro->parameters; parameter != NULL;
             parameter = parameter->next, index++) {
            if (parameter->as.name.name != name)
                continue;
            if (i == 0 && *uses[i] && index < macro->parameter_count - macro->default_count)
                return compile_fail(c, parameter->position, "the parameter 'caller' needs a default");
            if (i == 0)
                macro->declares_caller = true;
            else
                *uses[i] = false;
        }
    }
    return CENTO_OK;
}

static cento_status parse_macro_body(compiler *c, node *n, const char *end) {
    const node *mark = c->last_name;
    uint32_t loops = c->loop_depth;
    c->loop_depth = 0;
    TRY(parse_closed_body(c, end, &n->as.macro->body));
    c->loop_depth = loops;
    return find_special_names(c, n, mark);
}

static cento_status macro_node(compiler *c, node_type type, size_t position, node **result) {
    TRY(compile_node(c, type, position, result));
    (*result)->as.macro = compile_alloc(c, 1, sizeof *(*result)->as.macro);
    return (*result)->as.macro == NULL ? compile_memory(c) : CENTO_OK;
}

static cento_status parse_macro(compiler *c, size_t position, node **result) {
    TRY(macro_node(c, NODE_MACRO, position, result));
    node_macro *macro = (*result)->as.macro;
    TRY(parse_name_target(c, NAME_STORE, &macro->target));
    macro->name = macro->target->as.name.name;
    TRY(parse_signature(c, macro));
    return parse_macro_body(c, *result, "endmacro");
}

static cento_status parse_call_block(compiler *c, size_t position, node **result) {
    TRY(macro_node(c, NODE_CALL_BLOCK, position, result));
    node_macro *macro = (*result)->as.macro;
    if (token_is(compile_token(c), "("))
        TRY(parse_signature(c, macro));
    TRY(parse_expression(c, true, &macro->call));
    if (macro->call->type != NODE_CALL)
        return compile_fail(c, macro->call->position, "expected a call");
    for (const node *keyword = macro->call->as.call->keywords; keyword != NULL; keyword = keyword->next)
        if (text_is(keyword->as.attribute.name, "caller"))
            return compile_fail(c, keyword->position, "the keyword argument 'caller' is repeated");
    return parse_macro_body(c, *result, "endcall");
}

static cento_status parse_loop_control(compiler *c, size_t position, node_type type, node **result) {
    if (c->loop_depth == 0)
        return compile_fail(c, position, "'%s' stands outside of a loop",
                            type == NODE_BREAK ? "break" : "continue");
    return compile_node(c, type, position, result);
}

static cento_status parse_statement(compiler *c, const char *const *ends, node **result) {
    const token *t = compile_token(c);
    size_t position = t->position;
    if (t->type != TOKEN_NAME)
        return compile_unexpected(c, "the name of a tag");
    c->next++;
    if (token_is_name(t, "if"))
        return parse_if(c, position, result);
    if (token_is_name(t, "for"))
        return parse_for(c, position, result);
    if (token_is_name(t, "set"))
        return parse_set(c, position, result);
    if (token_is_name(t, "macro"))
        return parse_macro(c, position, result);
    if (token_is_name(t, "break"))
        return parse_loop_control(c, position, NODE_BREAK, result);
    if (token_is_name(t, "continue"))
        return parse_loop_control(c, position, NODE_CONTINUE, result);
    if (token_is_name(t, "generation")) { /* transformers: marks the assistant's text, renders its body */
        TRY(macro_node(c, NODE_CALL_BLOCK, position, result));
        return parse_macro_body(c, *result, "endgeneration");
    }
    if (token_is_name(t, "call"))
        return parse_call_block(c, position, result);
    if (token_is_name(t, "filter"))
        return parse_filter_block(c, position, result);
    if (token_is_name(t, "with"))
        return parse_with(c, position, result);
    if (token_is_name(t, "print"))
        return parse_print(c, position, result);
    static const char *const refused[] = {"block", "extends", "include", "import", "from", "autoescape"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (token_is_name(t, refused[i]))
            return compile_fail(c, position, "the tag '%s' is not supported", refused[i]);
    if (ends == NULL)
        return compile_fail(c, position, "unknown tag '%.100s'", t->item.as.text->data);
    return compile_fail(c, position, "unknown tag '%.100s', or '%s' is missing before it",
                        t->item.as.text->data, ends[0]);
}

static bool tag_ends(const compiler *c, const char *const *ends) {
    for (; ends != NULL && *ends != NULL; ends++)
        if (token_is_name(compile_token(c), *ends))
            return true;
    return false;
}

/* Text and {{ }} that stand side by side are one output node. */
static cento_status parse_output(compiler *c, node **result) {
    node_list items = {0};
    TRY(compile_node(c, NODE_OUTPUT, compile_token(c)->position, result));
    for (;;) {
        const token *t = compile_token(c);
        node *item;
        if (t->type == TOKEN_DATA) {
            TRY(compile_node(c, NODE_CONSTANT, t->position, &item));
            item->as.constant = t->item;
        } else if (t->type == TOKEN_VARIABLE_BEGIN) {
            c->next++;
            TRY(parse_tuple(c, true, NULL, &item));
            if (compile_token(c)->type != TOKEN_VARIABLE_END)
                return compile_unexpected(c, "}}");
        } else {
            break;
        }
        c->next++;
        node_list_add(&items, item);
    }
    (*result)->as.list.items = items.first;
    (*result)->as.list.count = items.count;
    return CENTO_OK;
}

static cento_status parse_body(compiler *c, const char *const *ends, node **result) {
    node_list statements = {0};
    uint32_t depth = c->depth; /* expressions count from here anew */
    size_t opened = compile_token(c)->position;
    if (++c->statement_depth > STATEMENT_DEPTH_MAX)
        return compile_fail(c, opened, "the blocks are nested too deeply");
    while (compile_token(c)->type != TOKEN_END) {
        node *statement;
        if (compile_token(c)->type == TOKEN_BLOCK_BEGIN) {
            c->next++;
            if (tag_ends(c, ends))
                break;
            TRY(parse_statement(c, ends, &statement));
            TRY(block_end(c));
        } else {
            TRY(parse_output(c, &statement));
        }
        node_list_add(&statements, statement);
        c->depth = depth;
    }
    if (ends != NULL && compile_token(c)->type == TOKEN_END)
        return compile_fail(c, opened, "the template ends before '%s'", ends[0]);
    c->statement_depth--;
    *result = statements.first;
    return CENTO_OK;
}

cento_status template_parse(compiler *c) {
    TRY(parse_body(c, NULL, &c->compiled->body));
    return compile_check_functions(c, NULL);
}
