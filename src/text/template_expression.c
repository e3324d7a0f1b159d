/*
 * Expressions to nodes, by recursive descent over Jinja's grammar. Loosest to tightest:
 *
 *   a if b else c | or | and | not | == != < <= > >= in "not in" | + - | ~ | * / // % | ** | unary - +
 *   | primary with .name [index] (call) | filter, is test
 *
 * Two things differ from Python: ** associates to the left, and -x|f is (-x)|f. Runs while compiling.
 */
#include "template.h"

#include <string.h>

/* Nodes below one expression node: bounds the recursion of all that walks trees. */
#define EXPRESSION_DEPTH_MAX 400
#define NESTING_MAX          150

static cento_status parse_unary(compiler *c, bool with_filter, node **result);

static cento_status set_depth(compiler *c, node *parent, const node *child) {
    if (child != NULL && child->depth >= parent->depth)
        parent->depth = (uint16_t)(child->depth + 1);
    if (parent->depth > EXPRESSION_DEPTH_MAX)
        return compile_fail(c, parent->position, "the expression is nested too deeply");
    return CENTO_OK;
}

static cento_status pair_node(compiler *c, node_type type, size_t position, node *left, node *right,
                              node **result) {
    TRY(compile_node(c, type, position, result));
    (*result)->as.pair.left = left;
    (*result)->as.pair.right = right;
    TRY(set_depth(c, *result, left));
    return set_depth(c, *result, right);
}

static cento_status list_node(compiler *c, node_type type, size_t position, const node_list *items,
                              node **result) {
    TRY(compile_node(c, type, position, result));
    (*result)->as.list.items = items->first;
    (*result)->as.list.count = items->count;
    for (const node *item = items->first; item != NULL; item = item->next)
        TRY(set_depth(c, *result, item));
    return CENTO_OK;
}

static cento_status constant_node(compiler *c, size_t position, value constant, node **result) {
    TRY(compile_node(c, NODE_CONSTANT, position, result));
    (*result)->as.constant = constant;
    return CENTO_OK;
}

static cento_status name_node(compiler *c, const token *t, name_use use, node **result) {
    TRY(compile_node(c, NODE_NAME, t->position, result));
    (*result)->as.name.name = t->item.as.text;
    (*result)->as.name.use = (uint8_t)use;
    (*result)->as.name.previous = c->last_name;
    c->last_name = *result;
    return CENTO_OK;
}

/* ------------------------------------------------------------------------- primaries ---- */

static cento_status parse_list(compiler *c, node **result) {
    size_t position = compile_token(c)->position;
    node_list items = {0};
    c->next++;
    while (!token_is(compile_token(c), "]")) {
        if (items.first != NULL)
            TRY(compile_expect(c, ","));
        if (token_is(compile_token(c), "]"))
            break;
        node *item;
        TRY(parse_expression(c, true, &item));
        node_list_add(&items, item);
    }
    c->next++;
    return list_node(c, NODE_LIST, position, &items, result);
}

static cento_status parse_dict(compiler *c, node **result) {
    size_t position = compile_token(c)->position;
    node_list items = {0};
    c->next++;
    while (!token_is(compile_token(c), "}")) {
        if (items.first != NULL)
            TRY(compile_expect(c, ","));
        if (token_is(compile_token(c), "}"))
            break;
        node *key, *item;
        TRY(parse_expression(c, true, &key));
        TRY(compile_expect(c, ":"));
        TRY(parse_expression(c, true, &item));
        node_list_add(&items, key);
        node_list_add(&items, item);
    }
    c->next++;
    return list_node(c, NODE_DICT, position, &items, result);
}

/* Strings that stand side by side are one. */
static cento_status parse_strings(compiler *c, node **result) {
    const token *first = compile_token(c);
    strbuf joined = {0};
    while (compile_token(c)->type == TOKEN_STRING) {
        const string *part = compile_token(c)->item.as.text;
        strbuf_append(&joined, part->data, part->bytes);
        c->next++;
    }
    value item = value_none();
    cento_status status =
        joined.failed ? compile_memory(c) : compile_text(c, joined.data, joined.bytes, &item);
    strbuf_free(&joined);
    TRY(status);
    return constant_node(c, first->position, item, result);
}

static cento_status parse_name(compiler *c, bool with_namespace, node **result) {
    const token *t = compile_token(c);
    const string *name = t->item.as.text;
    c->next++;
    if (text_is(name, "true") || text_is(name, "True"))
        return constant_node(c, t->position, value_bool(true), result);
    if (text_is(name, "false") || text_is(name, "False"))
        return constant_node(c, t->position, value_bool(false), result);
    if (text_is(name, "none") || text_is(name, "None"))
        return constant_node(c, t->position, value_none(), result);
    node *loaded;
    TRY(name_node(c, t, NAME_LOAD, &loaded));
    *result = loaded;
    if (!with_namespace || !compile_skip(c, "."))
        return CENTO_OK;
    const token *attribute = compile_token(c);
    if (attribute->type != TOKEN_NAME)
        return compile_unexpected(c, "a name");
    c->next++;
    TRY(compile_node(c, NODE_NAMESPACE_ATTRIBUTE, t->position, result));
    (*result)->as.attribute.object = loaded;
    (*result)->as.attribute.name = attribute->item.as.text;
    return set_depth(c, *result, loaded);
}

static cento_status parse_parentheses(compiler *c, node **result) {
    size_t position = compile_token(c)->position;
    c->next++;
    if (compile_skip(c, ")")) {
        node_list none = {0};
        return list_node(c, NODE_TUPLE, position, &none, result);
    }
    TRY(parse_tuple(c, true, NULL, result));
    return compile_expect(c, ")");
}

static cento_status parse_primary(compiler *c, bool with_namespace, node **result) {
    const token *t = compile_token(c);
    switch (t->type) {
    case TOKEN_NAME:
        return parse_name(c, with_namespace, result);
    case TOKEN_STRING:
        return parse_strings(c, result);
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
        c->next++;
        return constant_node(c, t->position, t->item, result);
    default:
        break;
    }
    if (token_is(t, "("))
        return parse_parentheses(c, result);
    if (token_is(t, "["))
        return parse_list(c, result);
    if (token_is(t, "{"))
        return parse_dict(c, result);
    return compile_unexpected(c, "an expression");
}

/* --------------------------------------------------------------------------- postfixes ---- */

static cento_status parse_argument(compiler *c, node_call *call, node_list *positional, node_list *keywords) {
    size_t position = compile_token(c)->position;
    if (compile_skip(c, "*")) {
        if (call->star != NULL || call->double_star != NULL)
            return compile_fail(c, position, "invalid syntax for function call expression");
        return parse_expression(c, true, &call->star);
    }
    if (compile_skip(c, "**")) {
        if (call->double_star != NULL)
            return compile_fail(c, position, "invalid syntax for function call expression");
        return parse_expression(c, true, &call->double_star);
    }
    const token *t = compile_token(c);
    if (t->type == TOKEN_NAME && token_is(t + 1, "=")) {
        if (call->double_star != NULL)
            return compile_fail(c, position, "invalid syntax for function call expression");
        for (const node *other = keywords->first; other != NULL; other = other->next)
            if (other->as.attribute.name == t->item.as.text)
                return compile_fail(c, position, "the keyword argument '%s' is repeated",
                                    t->item.as.text->data);
        node *keyword, *item;
        c->next += 2;
        TRY(parse_expression(c, true, &item));
        TRY(compile_node(c, NODE_KEYWORD, position, &keyword));
        keyword->as.attribute.name = t->item.as.text;
        keyword->as.attribute.object = item;
        TRY(set_depth(c, keyword, item));
        node_list_add(keywords, keyword);
        return CENTO_OK;
    }
    if (call->star != NULL || call->double_star != NULL || keywords->first != NULL)
        return compile_fail(c, position, "a positional argument follows keyword arguments");
    node *item;
    TRY(parse_expression(c, true, &item));
    node_list_add(positional, item);
    return CENTO_OK;
}

/* "(a, b, c=d, *e, **f)" */
static cento_status parse_arguments(compiler *c, node *n) {
    node_call *call = n->as.call;
    node_list positional = {0}, keywords = {0};
    TRY(compile_expect(c, "("));
    while (!token_is(compile_token(c), ")")) {
        if (positional.first != NULL || keywords.first != NULL || call->star != NULL ||
            call->double_star != NULL) {
            TRY(compile_expect(c, ","));
            if (token_is(compile_token(c), ")"))
                break;
        }
        TRY(parse_argument(c, call, &positional, &keywords));
    }
    c->next++;
    call->positional = positional.first;
    call->keywords = keywords.first;
    for (const node *item = positional.first; item != NULL; item = item->next)
        TRY(set_depth(c, n, item));
    for (const node *item = keywords.first; item != NULL; item = item->next)
        TRY(set_depth(c, n, item));
    TRY(set_depth(c, n, call->star));
    return set_depth(c, n, call->double_star);
}

static cento_status call_node(compiler *c, node_type type, size_t position, node *callee, node **result) {
    TRY(compile_node(c, type, position, result));
    node_call *call = compile_alloc(c, 1, sizeof *call);
    if (call == NULL)
        return compile_memory(c);
    call->callee = callee;
    (*result)->as.call = call;
    return set_depth(c, *result, callee);
}

static cento_status parse_call(compiler *c, node *callee, node **result) {
    TRY(call_node(c, NODE_CALL, compile_token(c)->position, callee, result));
    return parse_arguments(c, *result);
}

/* One index or slice inside []. */
static cento_status parse_index(compiler *c, node *object, size_t position, node **index, node **slice) {
    node *parts[3] = {NULL, NULL, NULL};
    size_t part = 0;
    bool sliced = false;
    for (; part < 3; part++) {
        const token *t = compile_token(c);
        if (!token_is(t, ":") && !token_is(t, "]") && !token_is(t, ","))
            TRY(parse_expression(c, true, &parts[part]));
        if (part == 2 || !compile_skip(c, ":"))
            break;
        sliced = true;
    }
    if (!sliced) {
        *index = parts[0];
        return parts[0] == NULL ? compile_unexpected(c, "an expression") : CENTO_OK;
    }
    TRY(compile_node(c, NODE_SLICE, position, slice));
    (*slice)->as.slice.object = object;
    (*slice)->as.slice.start = parts[0];
    (*slice)->as.slice.stop = parts[1];
    (*slice)->as.slice.step = parts[2];
    TRY(set_depth(c, *slice, object));
    for (part = 0; part < 3; part++)
        TRY(set_depth(c, *slice, parts[part]));
    return CENTO_OK;
}

static cento_status parse_subscript(compiler *c, node *object, node **result) {
    size_t position = compile_token(c)->position;
    node_list indexes = {0};
    c->next++;
    while (!token_is(compile_token(c), "]")) {
        node *index = NULL, *slice = NULL;
        if (indexes.first != NULL)
            TRY(compile_expect(c, ","));
        TRY(parse_index(c, object, position, &index, &slice));
        if (slice != NULL) {
            if (indexes.first != NULL || !token_is(compile_token(c), "]"))
                return compile_fail(c, position, "slices in more than one dimension are not supported");
            c->next++;
            *result = slice;
            return CENTO_OK;
        }
        node_list_add(&indexes, index);
    }
    c->next++;
    node *index = indexes.first;
    if (indexes.count != 1)
        TRY(list_node(c, NODE_TUPLE, position, &indexes, &index));
    return pair_node(c, NODE_ITEM, position, object, index, result);
}

static cento_status parse_attribute(compiler *c, node *object, node **result) {
    size_t position = compile_token(c)->position;
    c->next++;
    const token *t = compile_token(c);
    if (t->type == TOKEN_NAME) {
        c->next++;
        TRY(compile_node(c, NODE_ATTRIBUTE, position, result));
        (*result)->as.attribute.object = object;
        (*result)->as.attribute.name = t->item.as.text;
        return set_depth(c, *result, object);
    }
    if (t->type != TOKEN_INTEGER)
        return compile_unexpected(c, "a name or a number");
    node *index;
    c->next++;
    TRY(constant_node(c, t->position, t->item, &index));
    return pair_node(c, NODE_ITEM, position, object, index, result);
}

static cento_status parse_postfix(compiler *c, node **n) {
    for (;;) {
        const token *t = compile_token(c);
        if (token_is(t, "."))
            TRY(parse_attribute(c, *n, n));
        else if (token_is(t, "["))
            TRY(parse_subscript(c, *n, n));
        else if (token_is(t, "("))
            TRY(parse_call(c, *n, n));
        else
            return CENTO_OK;
    }
}

/* The name of a filter or test; dots belong to it. */
static cento_status parse_dotted_name(compiler *c, const string **name) {
    const token *t = compile_token(c);
    if (t->type != TOKEN_NAME)
        return compile_unexpected(c, "a name");
    *name = t->item.as.text;
    c->next++;
    while (compile_skip(c, ".")) {
        if (compile_token(c)->type != TOKEN_NAME)
            return compile_unexpected(c, "a name");
        char dotted[128];
        int bytes =
            snprintf(dotted, sizeof dotted, "%s.%s", (*name)->data, compile_token(c)->item.as.text->data);
        if (bytes < 0 || (size_t)bytes >= sizeof dotted)
            return compile_fail(c, t->position, "the name is too long");
        TRY(compile_name(c, dotted, (size_t)bytes, name));
        c->next++;
    }
    return CENTO_OK;
}

/* Jinja looks filters and tests up when it compiles, except inside of {% if %} and inline if, where an
 * unknown one is an error only when it is reached. Which of both holds is known later than this. */
static void find_function(compiler *c, node *n, bool filter) {
    node_call *call = n->as.call;
    call->function = filter ? template_filter(call->name->data, call->name->bytes)
                            : template_test(call->name->data, call->name->bytes);
    if (call->function == NULL || call->function->function == NULL) {
        call->previous_unknown = c->unknown;
        c->unknown = n;
    }
}

cento_status compile_check_functions(compiler *c, const node *known) {
    if (c->unknown == known)
        return CENTO_OK;
    const node *first = c->unknown;
    while (first->as.call->previous_unknown != known)
        first = first->as.call->previous_unknown;
    const char *kind = first->type == NODE_FILTER ? "filter" : "test";
    if (first->as.call->function == NULL)
        return compile_fail(c, first->position, "no %s named '%s'", kind, first->as.call->name->data);
    return compile_fail(c, first->position, "the %s '%s' is not supported", kind, first->as.call->name->data);
}

cento_status parse_filter_chain(compiler *c, node *input, bool start_inline, node **result) {
    *result = input;
    while (start_inline || token_is(compile_token(c), "|")) {
        if (!start_inline)
            c->next++;
        start_inline = false;
        TRY(call_node(c, NODE_FILTER, compile_token(c)->position, *result, result));
        TRY(parse_dotted_name(c, &(*result)->as.call->name));
        find_function(c, *result, true);
        if (token_is(compile_token(c), "("))
            TRY(parse_arguments(c, *result));
    }
    return CENTO_OK;
}

static bool starts_test_argument(const token *t) {
    if (t->type == TOKEN_NAME)
        return !token_is_name(t, "else") && !token_is_name(t, "or") && !token_is_name(t, "and");
    return t->type == TOKEN_STRING || t->type == TOKEN_INTEGER || t->type == TOKEN_FLOAT ||
           token_is(t, "[") || token_is(t, "{");
}

static cento_status parse_test(compiler *c, node **n) {
    size_t position = compile_token(c)->position;
    c->next++;
    bool negated = compile_skip_name(c, "not");
    node *test;
    TRY(call_node(c, NODE_TEST, position, *n, &test));
    TRY(parse_dotted_name(c, &test->as.call->name));
    find_function(c, test, false);
    const token *t = compile_token(c);
    if (token_is(t, "(")) {
        TRY(parse_arguments(c, test));
    } else if (starts_test_argument(t)) {
        if (token_is_name(t, "is"))
            return compile_fail(c, t->position, "tests with 'is' cannot be chained");
        node *argument;
        TRY(parse_primary(c, false, &argument));
        TRY(parse_postfix(c, &argument));
        test->as.call->positional = argument;
        TRY(set_depth(c, test, argument));
    }
    *n = test;
    return negated ? pair_node(c, NODE_NOT, position, test, NULL, n) : CENTO_OK;
}

static cento_status parse_filters_and_tests(compiler *c, node **n) {
    for (;;) {
        const token *t = compile_token(c);
        if (token_is(t, "|"))
            TRY(parse_filter_chain(c, *n, false, n));
        else if (token_is_name(t, "is"))
            TRY(parse_test(c, n));
        else if (token_is(t, "("))
            TRY(parse_call(c, *n, n));
        else
            return CENTO_OK;
    }
}

/* --------------------------------------------------------------------------- operators ---- */

static cento_status parse_unary(compiler *c, bool with_filter, node **result) {
    const token *t = compile_token(c);
    if (token_is(t, "-") || token_is(t, "+")) {
        node *operand;
        if (++c->depth > NESTING_MAX)
            return compile_fail(c, t->position, "the expression is nested too deeply");
        c->next++;
        TRY(parse_unary(c, false, &operand));
        c->depth--;
        TRY(pair_node(c, token_is(t, "-") ? NODE_NEGATE : NODE_POSITIVE, t->position, operand, NULL, result));
    } else {
        TRY(parse_primary(c, false, result));
    }
    TRY(parse_postfix(c, result));
    return with_filter ? parse_filters_and_tests(c, result) : CENTO_OK;
}

typedef struct binary_operator {
    const char *spelled;
    operation operation;
} binary_operator;

static operation token_operation(const token *t, const binary_operator *operators) {
    for (; operators->spelled != NULL; operators++)
        if (token_is(t, operators->spelled))
            return operators->operation;
    return OPERATION_NONE;
}

/* The left-associative levels, tightest first; ~ (level 2) is a list instead. */
static cento_status parse_arithmetic(compiler *c, int level, node **result) {
    static const binary_operator levels[4][5] = {
        {{"**", OPERATION_POWER}, {NULL, OPERATION_NONE}},
        {{"*", OPERATION_MULTIPLY},
         {"/", OPERATION_DIVIDE},
         {"//", OPERATION_FLOOR_DIVIDE},
         {"%", OPERATION_MODULO},
         {NULL, OPERATION_NONE}},
        {{NULL, OPERATION_NONE}},
        {{"+", OPERATION_ADD}, {"-", OPERATION_SUBTRACT}, {NULL, OPERATION_NONE}},
    };
    if (level < 0)
        return parse_unary(c, true, result);
    TRY(parse_arithmetic(c, level - 1, result));
    if (level == 2) {
        const token *t = compile_token(c);
        if (!token_is(t, "~"))
            return CENTO_OK;
        node_list parts = {0};
        node_list_add(&parts, *result);
        while (compile_skip(c, "~")) {
            node *part;
            TRY(parse_arithmetic(c, level - 1, &part));
            node_list_add(&parts, part);
        }
        return list_node(c, NODE_CONCATENATE, t->position, &parts, result);
    }
    for (;;) {
        const token *t = compile_token(c);
        operation found = token_operation(t, levels[level]);
        if (found == OPERATION_NONE)
            return CENTO_OK;
        node *right;
        c->next++;
        TRY(parse_arithmetic(c, level - 1, &right));
        TRY(pair_node(c, NODE_ARITHMETIC, t->position, *result, right, result));
        (*result)->operation = (uint8_t)found;
    }
}

static cento_status parse_compare(compiler *c, node **result) {
    static const binary_operator operators[] = {
        {"==", OPERATION_EQUAL},      {"!=", OPERATION_NOT_EQUAL}, {"<", OPERATION_LESS},
        {"<=", OPERATION_LESS_EQUAL}, {">", OPERATION_GREATER},    {">=", OPERATION_GREATER_EQUAL},
        {NULL, OPERATION_NONE},
    };
    node_list parts = {0};
    TRY(parse_arithmetic(c, 3, result));
    size_t position = compile_token(c)->position;
    for (;;) {
        const token *t = compile_token(c);
        operation found = token_operation(t, operators);
        if (found == OPERATION_NONE && token_is_name(t, "in"))
            found = OPERATION_IN;
        if (found == OPERATION_NONE && token_is_name(t, "not") && token_is_name(t + 1, "in")) {
            found = OPERATION_NOT_IN;
            c->next++;
        }
        if (found == OPERATION_NONE)
            break;
        node *operand, *expression;
        c->next++;
        TRY(parse_arithmetic(c, 3, &expression));
        TRY(pair_node(c, NODE_OPERAND, t->position, expression, NULL, &operand));
        operand->operation = (uint8_t)found;
        if (parts.first == NULL)
            node_list_add(&parts, *result);
        node_list_add(&parts, operand);
    }
    return parts.first == NULL ? CENTO_OK : list_node(c, NODE_COMPARE, position, &parts, result);
}

static cento_status parse_not(compiler *c, node **result) {
    const token *t = compile_token(c);
    if (!compile_skip_name(c, "not"))
        return parse_compare(c, result);
    node *operand;
    if (++c->depth > NESTING_MAX)
        return compile_fail(c, t->position, "the expression is nested too deeply");
    TRY(parse_not(c, &operand));
    c->depth--;
    return pair_node(c, NODE_NOT, t->position, operand, NULL, result);
}

static cento_status parse_and(compiler *c, node **result) {
    TRY(parse_not(c, result));
    for (const token *t = compile_token(c); compile_skip_name(c, "and"); t = compile_token(c)) {
        node *right;
        TRY(parse_not(c, &right));
        TRY(pair_node(c, NODE_AND, t->position, *result, right, result));
    }
    return CENTO_OK;
}

static cento_status parse_or(compiler *c, node **result) {
    TRY(parse_and(c, result));
    for (const token *t = compile_token(c); compile_skip_name(c, "or"); t = compile_token(c)) {
        node *right;
        TRY(parse_and(c, &right));
        TRY(pair_node(c, NODE_OR, t->position, *result, right, result));
    }
    return CENTO_OK;
}

static cento_status parse_condition(compiler *c, node **result) {
    node *known = c->unknown;
    TRY(parse_or(c, result));
    if (!token_is_name(compile_token(c), "if"))
        return CENTO_OK;
    while (token_is_name(compile_token(c), "if")) {
        size_t position = compile_token(c)->position;
        node *test, *otherwise = NULL, *condition;
        c->next++;
        TRY(parse_or(c, &test));
        if (compile_skip_name(c, "else"))
            TRY(parse_expression(c, true, &otherwise));
        TRY(compile_node(c, NODE_CONDITION, position, &condition));
        condition->as.condition.test = test;
        condition->as.condition.then = *result;
        condition->as.condition.otherwise = otherwise;
        TRY(set_depth(c, condition, test));
        TRY(set_depth(c, condition, *result));
        TRY(set_depth(c, condition, otherwise));
        *result = condition;
    }
    c->unknown = known;
    return CENTO_OK;
}

cento_status parse_expression(compiler *c, bool with_condition, node **result) {
    if (++c->depth > NESTING_MAX)
        return compile_fail(c, compile_token(c)->position, "the expression is nested too deeply");
    TRY(with_condition ? parse_condition(c, result) : parse_or(c, result));
    c->depth--;
    return CENTO_OK;
}

static bool tuple_ends(const compiler *c, const char *end) {
    const token *t = compile_token(c);
    return t->type == TOKEN_VARIABLE_END || t->type == TOKEN_BLOCK_END || token_is(t, ")") ||
           (end != NULL && token_is_name(t, end));
}

/* Expressions with commas between them are a tuple; a single one without a comma is itself. */
static cento_status parse_tuple_of(compiler *c, bool target, bool option, const char *end, node **result) {
    size_t position = compile_token(c)->position;
    node_list items = {0};
    bool comma = false;
    for (;;) {
        if (items.first != NULL)
            TRY(compile_expect(c, ","));
        if (tuple_ends(c, end))
            break;
        node *item;
        TRY(target ? parse_primary(c, option, &item) : parse_expression(c, option, &item));
        node_list_add(&items, item);
        if (!token_is(compile_token(c), ","))
            break;
        comma = true;
    }
    if (comma)
        return list_node(c, NODE_TUPLE, position, &items, result);
    if (items.first == NULL)
        return compile_unexpected(c, "an expression");
    *result = items.first;
    return CENTO_OK;
}

cento_status parse_tuple(compiler *c, bool with_condition, const char *end, node **result) {
    return parse_tuple_of(c, false, with_condition, end, result);
}

/* ----------------------------------------------------------------------------- targets ---- */

static cento_status set_store(compiler *c, node *target) {
    if (target->type == NODE_NAME) {
        target->as.name.use = NAME_STORE;
        return CENTO_OK;
    }
    if (target->type == NODE_NAMESPACE_ATTRIBUTE)
        return CENTO_OK;
    if (target->type != NODE_TUPLE)
        return compile_fail(c, target->position, "this cannot be assigned to");
    for (node *item = target->as.list.items; item != NULL; item = item->next)
        TRY(set_store(c, item));
    return CENTO_OK;
}

cento_status parse_target(compiler *c, const char *end, bool with_namespace, node **result) {
    TRY(parse_tuple_of(c, true, with_namespace, end, result));
    return set_store(c, *result);
}

cento_status parse_name_target(compiler *c, name_use use, node **result) {
    const token *t = compile_token(c);
    static const char *const constants[] = {"true", "True", "false", "False", "none", "None"};
    if (t->type != TOKEN_NAME)
        return compile_unexpected(c, "a name");
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (token_is_name(t, constants[i]))
            return compile_fail(c, t->position, "'%s' cannot be assigned to", constants[i]);
    c->next++;
    return name_node(c, t, use, result);
}
