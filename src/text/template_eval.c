/*
 * Expressions of a compiled template to values. One render per thread.
 */
#include "template.h"

#include <string.h>

static cento_status eval_list(render *r, frame *f, const node *n, value_type type, value *result) {
    size_t count = 0;
    value *items = render_alloc(r, n->as.list.count, sizeof *items);
    if (items == NULL)
        return render_memory(r);
    for (const node *item = n->as.list.items; item != NULL; item = item->next)
        TRY(template_eval(r, f, item, &items[count++]));
    return value_sequence(r, type, items, count, result);
}

static cento_status eval_dict(render *r, frame *f, const node *n, value *result) {
    dict *made;
    TRY(dict_new(r, n->as.list.count / 2, &made));
    for (const node *item = n->as.list.items; item != NULL; item = item->next->next) {
        value key, member;
        TRY(template_eval(r, f, item, &key));
        TRY(template_eval(r, f, item->next, &member));
        r->position = item->position;
        TRY(dict_set(r, made, key, member));
    }
    *result = (value){.type = VALUE_DICT, .as.dict = made};
    return CENTO_OK;
}

static cento_status eval_name(render *r, frame *f, const node *n, value *result) {
    for (uint16_t i = 0; i < n->as.name.hops; i++)
        f = f->outer;
    *result = f->slots[n->as.name.slot];
    if (result->type != VALUE_MISSING)
        return CENTO_OK;
    return value_undefined(r, NULL, NULL, (value){.type = VALUE_TEXT, .as.text = n->as.name.name}, result);
}

/* and, or: give one of the operands, as in Python. */
static cento_status eval_logic(render *r, frame *f, const node *n, value *result) {
    bool truth;
    TRY(template_eval(r, f, n->as.pair.left, result));
    TRY(value_truth(r, *result, &truth));
    return truth == (n->type == NODE_OR) ? CENTO_OK : template_eval(r, f, n->as.pair.right, result);
}

static cento_status eval_not(render *r, frame *f, const node *n, value *result) {
    value operand;
    bool truth;
    TRY(template_eval(r, f, n->as.pair.left, &operand));
    TRY(value_truth(r, operand, &truth));
    *result = value_bool(!truth);
    return CENTO_OK;
}

static cento_status eval_arithmetic(render *r, frame *f, const node *n, value *result) {
    value left, right;
    TRY(template_eval(r, f, n->as.pair.left, &left));
    TRY(template_eval(r, f, n->as.pair.right, &right));
    r->position = n->position;
    return value_arithmetic(r, (operation)n->operation, left, right, result);
}

static cento_status eval_sign(render *r, frame *f, const node *n, value *result) {
    value operand;
    TRY(template_eval(r, f, n->as.pair.left, &operand));
    r->position = n->position;
    return value_negate(r, operand, n->type == NODE_NEGATE, result);
}

static cento_status eval_concatenate(render *r, frame *f, const node *n, value *result) {
    value parts;
    TRY(eval_list(r, f, n, VALUE_LIST, &parts)); /* first: the parts may build text themselves */
    size_t begin = render_begin(r);
    r->position = n->position;
    for (size_t i = 0; i < parts.as.list->count; i++)
        TRY(value_print(r, parts.as.list->items[i]));
    return render_end(r, begin, result);
}

static cento_status compare_once(render *r, operation operator_, value left, value right, bool *truth) {
    switch (operator_) {
    case OPERATION_EQUAL:
        return value_equal(r, left, right, truth);
    case OPERATION_NOT_EQUAL:
        TRY(value_equal(r, left, right, truth));
        *truth = !*truth;
        return CENTO_OK;
    case OPERATION_IN:
        return value_contains(r, right, left, truth);
    case OPERATION_NOT_IN:
        TRY(value_contains(r, right, left, truth));
        *truth = !*truth;
        return CENTO_OK;
    default:
        return value_compare(r, operator_, left, right, truth);
    }
}

/* a < b < c is (a < b) and (b < c), with b evaluated once. */
static cento_status eval_compare(render *r, frame *f, const node *n, value *result) {
    value left, right;
    bool truth = true;
    TRY(template_eval(r, f, n->as.list.items, &left));
    for (const node *operand = n->as.list.items->next; operand != NULL && truth; operand = operand->next) {
        TRY(template_eval(r, f, operand->as.pair.left, &right));
        r->position = operand->position;
        TRY(compare_once(r, (operation)operand->operation, left, right, &truth));
        left = right;
    }
    *result = value_bool(truth);
    return CENTO_OK;
}

static cento_status eval_condition(render *r, frame *f, const node *n, value *result) {
    value test;
    bool truth;
    TRY(template_eval(r, f, n->as.condition.test, &test));
    TRY(value_truth(r, test, &truth));
    if (truth)
        return template_eval(r, f, n->as.condition.then, result);
    if (n->as.condition.otherwise != NULL)
        return template_eval(r, f, n->as.condition.otherwise, result);
    return value_undefined(r, "the inline if-expression evaluated to false and no else section was defined",
                           NULL, value_none(), result);
}

static cento_status eval_slice(render *r, frame *f, const node *n, value *result) {
    value object, bounds[3] = {value_none(), value_none(), value_none()};
    const node *const parts[3] = {n->as.slice.start, n->as.slice.stop, n->as.slice.step};
    TRY(template_eval(r, f, n->as.slice.object, &object));
    for (size_t i = 0; i < 3; i++)
        if (parts[i] != NULL)
            TRY(template_eval(r, f, parts[i], &bounds[i]));
    r->position = n->position;
    return value_slice(r, object, bounds[0], bounds[1], bounds[2], result);
}

/* --------------------------------------------------------------------------------- calls ---- */

static size_t list_length(const node *n) {
    size_t count = 0;
    for (; n != NULL; n = n->next)
        count++;
    return count;
}

static cento_status add_double_star(render *r, value extra, keyword_arg *keywords, size_t *count) {
    for (size_t i = 0; i < extra.as.dict->count; i++) {
        const dict_entry *entry = &extra.as.dict->entries[i];
        if (entry->key.type != VALUE_TEXT)
            return render_fail(r, "keywords must be strings");
        for (size_t j = 0; j < *count; j++)
            if (keywords[j].name->bytes == entry->key.as.text->bytes &&
                memcmp(keywords[j].name->data, entry->key.as.text->data, keywords[j].name->bytes) == 0)
                return render_fail(r, "got multiple values for keyword argument '%s'",
                                   keywords[j].name->data);
        keywords[(*count)++] = (keyword_arg){.name = entry->key.as.text, .item = entry->item};
    }
    return CENTO_OK;
}

/* caller: the block of a {% call %}, or NULL */
static cento_status eval_arguments(render *r, frame *f, const node_call *n, const value *caller,
                                   call_args *result) {
    static const string caller_name = {.data = "caller", .bytes = 6, .characters = 6};
    size_t count = list_length(n->positional), keyword_count = list_length(n->keywords);
    const value *star_items = NULL;
    size_t star_count = 0;
    value *fixed = render_alloc(r, count, sizeof *fixed);
    keyword_arg *keywords = render_alloc(r, keyword_count, sizeof *keywords);
    if (fixed == NULL || keywords == NULL)
        return render_memory(r);
    count = keyword_count = 0;
    for (const node *item = n->positional; item != NULL; item = item->next)
        TRY(template_eval(r, f, item, &fixed[count++]));
    for (const node *item = n->keywords; item != NULL; item = item->next) {
        keywords[keyword_count].name = item->as.attribute.name;
        TRY(template_eval(r, f, item->as.attribute.object, &keywords[keyword_count++].item));
    }
    *result = (call_args){
        .positional = fixed, .count = count, .keywords = keywords, .keyword_count = keyword_count};
    if (n->star == NULL && n->double_star == NULL && caller == NULL)
        return CENTO_OK;
    if (n->star != NULL) {
        value star;
        TRY(template_eval(r, f, n->star, &star));
        TRY(value_items(r, star, &star_items, &star_count));
    }
    value extra = value_none();
    size_t extra_count = 1; /* caller */
    if (n->double_star != NULL) {
        TRY(template_eval(r, f, n->double_star, &extra));
        if (extra.type != VALUE_DICT)
            return render_fail(r, "argument after ** must be a mapping, not %s", value_type_name(extra));
        extra_count += extra.as.dict->count;
    }
    value *positional = render_alloc(r, count + star_count, sizeof *positional);
    keyword_arg *all = render_alloc(r, keyword_count + extra_count, sizeof *all);
    if (positional == NULL || all == NULL)
        return render_memory(r);
    for (size_t i = 0; i < count + star_count; i++)
        positional[i] = i < count ? fixed[i] : star_items[i - count];
    for (size_t i = 0; i < keyword_count; i++)
        all[i] = keywords[i];
    if (caller != NULL)
        all[keyword_count++] = (keyword_arg){.name = &caller_name, .item = *caller};
    if (extra.type == VALUE_DICT)
        TRY(add_double_star(r, extra, all, &keyword_count));
    *result = (call_args){.positional = positional,
                          .count = count + star_count,
                          .keywords = all,
                          .keyword_count = keyword_count};
    return CENTO_OK;
}

cento_status template_call_node(render *r, frame *f, const node *n, const value *caller, value *result) {
    value callee;
    call_args arguments;
    TRY(template_eval(r, f, n->as.call->callee, &callee));
    r->position = n->position;
    TRY(eval_arguments(r, f, n->as.call, caller, &arguments));
    r->position = n->position;
    return template_call(r, callee, &arguments, result);
}

static cento_status unknown_function(render *r, const node *n) {
    const node_call *call = n->as.call;
    const char *kind = n->type == NODE_FILTER ? "filter" : "test";
    if (call->function == NULL)
        return render_fail(r, "no %s named '%s'", kind, call->name->data);
    return render_fail(r, "the %s '%s' is not supported", kind, call->name->data);
}

cento_status template_eval_filter(render *r, frame *f, const node *n, const value *input, value *result) {
    const node_call *filter = n->as.call;
    value self;
    call_args arguments;
    if (filter->callee == NULL)
        self = *input;
    else if (n->type == NODE_FILTER && filter->callee->type == NODE_FILTER && input != NULL)
        TRY(template_eval_filter(r, f, filter->callee, input, &self));
    else
        TRY(template_eval(r, f, filter->callee, &self));
    r->position = n->position;
    if (filter->function == NULL || filter->function->function == NULL)
        return unknown_function(r, n);
    TRY(eval_arguments(r, f, filter, NULL, &arguments));
    r->position = n->position;
    return builtin_call(r, filter->function, self, &arguments, result);
}

/* ------------------------------------------------------------------------------- dispatch ---- */

static cento_status eval_attribute(render *r, frame *f, const node *n, value *result) {
    value object;
    TRY(template_eval(r, f, n->as.attribute.object, &object));
    r->position = n->position;
    return value_attribute(r, object, n->as.attribute.name, result);
}

static cento_status eval_item(render *r, frame *f, const node *n, value *result) {
    value object, index;
    TRY(template_eval(r, f, n->as.pair.left, &object));
    TRY(template_eval(r, f, n->as.pair.right, &index));
    r->position = n->position;
    return value_item(r, object, index, result);
}

static cento_status eval_node(render *r, frame *f, const node *n, value *result) {
    switch ((node_type)n->type) {
    case NODE_LIST:
        return eval_list(r, f, n, VALUE_LIST, result);
    case NODE_TUPLE:
        return eval_list(r, f, n, VALUE_TUPLE, result);
    case NODE_DICT:
        return eval_dict(r, f, n, result);
    case NODE_NEGATE:
    case NODE_POSITIVE:
        return eval_sign(r, f, n, result);
    case NODE_NOT:
        return eval_not(r, f, n, result);
    case NODE_AND:
    case NODE_OR:
        return eval_logic(r, f, n, result);
    case NODE_ARITHMETIC:
        return eval_arithmetic(r, f, n, result);
    case NODE_CONCATENATE:
        return eval_concatenate(r, f, n, result);
    case NODE_COMPARE:
        return eval_compare(r, f, n, result);
    case NODE_CONDITION:
        return eval_condition(r, f, n, result);
    case NODE_ATTRIBUTE:
        return eval_attribute(r, f, n, result);
    case NODE_ITEM:
        return eval_item(r, f, n, result);
    case NODE_SLICE:
        return eval_slice(r, f, n, result);
    case NODE_CALL:
        return template_call_node(r, f, n, NULL, result);
    case NODE_FILTER:
    case NODE_TEST:
        return template_eval_filter(r, f, n, NULL, result);
    default:
        return render_fail(r, "not an expression");
    }
}

cento_status template_eval(render *r, frame *f, const node *n, value *result) {
    if (n->type == NODE_CONSTANT) {
        *result = n->as.constant;
        return CENTO_OK;
    }
    if (n->type == NODE_NAME)
        return eval_name(r, f, n, result);
    r->position = n->position;
    TRY(render_step(r, 0));
    TRY(render_enter(r));
    TRY(eval_node(r, f, n, result));
    render_leave(r);
    return CENTO_OK;
}
