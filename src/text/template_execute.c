/*
 * Statements of a compiled template: output, assignment, branches, loops, macros and blocks, and the
 * calls that lead into them. One render per thread.
 */
#include "template.h"

#include <string.h>

/* -------------------------------------------------------------------------------- frames ---- */

cento_status template_frame(render *r, const layout *slots, frame *outer, frame **result) {
    frame *made = render_alloc(r, 1, sizeof *made + slots->count * sizeof *made->slots);
    if (made == NULL)
        return render_memory(r);
    made->outer = outer;
    made->layout = slots;
    *result = made;
    return CENTO_OK;
}

static value context_value(const render *r, const string *name) {
    const value *found = dict_get_text(r->context, name->data, name->bytes);
    if (found != NULL)
        return *found;
    const builtin *global = template_global(name->data, name->bytes);
    value missing = {.type = VALUE_MISSING}, function = {.type = VALUE_FUNCTION, .as.function = global};
    return global == NULL ? missing : function;
}

/* Gives every variable its first value; those of the caller are left alone. */
cento_status template_frame_enter(render *r, frame *f) {
    for (size_t i = 0; i < f->layout->count; i++) {
        const slot *s = &f->layout->slots[i];
        const frame *from = f;
        switch (s->source) {
        case SLOT_PARAMETER:
            break;
        case SLOT_CONTEXT:
            f->slots[i] = context_value(r, s->name);
            break;
        case SLOT_OUTER:
            for (uint16_t up = 0; up < s->hops; up++)
                from = from->outer;
            f->slots[i] = from->slots[s->outer];
            break;
        case SLOT_NOTHING:
            f->slots[i] = (value){.type = VALUE_MISSING};
            break;
        }
    }
    return render_step(r, f->layout->count * sizeof *f->slots);
}

/* ---------------------------------------------------------------------------- assignment ---- */

static cento_status assign_items(render *r, frame *f, const node *target, value item) {
    const value *items;
    size_t count;
    if (!value_is_iterable(item))
        return render_fail(r, "cannot unpack non-iterable %s object", value_type_name(item));
    TRY(value_items(r, item, &items, &count));
    if (count != target->as.list.count)
        return render_fail(r, "%s values to unpack (expected %zu, got %zu)",
                           count < target->as.list.count ? "not enough" : "too many", target->as.list.count,
                           count);
    for (const node *part = target->as.list.items; part != NULL; part = part->next)
        TRY(template_assign(r, f, part, *items++));
    return CENTO_OK;
}

static cento_status load_name(frame *f, const node *name, value *result) {
    for (uint16_t i = 0; i < name->as.name.hops; i++)
        f = f->outer;
    *result = f->slots[name->as.name.slot];
    return CENTO_OK;
}

cento_status template_assign(render *r, frame *f, const node *target, value item) {
    r->position = target->position;
    if (target->type == NODE_TUPLE)
        return assign_items(r, f, target, item);
    if (target->type == NODE_NAMESPACE_ATTRIBUTE) {
        value object;
        const string *name = target->as.attribute.name;
        TRY(load_name(f, target->as.attribute.object, &object));
        if (object.type != VALUE_NAMESPACE)
            return render_fail(r, "cannot assign attribute on non-namespace object");
        if (name->bytes > 0 && name->data[0] == '_')
            return render_fail(r, "namespaces cannot have the underscore-prefixed attribute '%s'",
                               name->data);
        return dict_set(r, object.as.dict, (value){.type = VALUE_TEXT, .as.text = name}, item);
    }
    for (uint16_t i = 0; i < target->as.name.hops; i++)
        f = f->outer;
    f->slots[target->as.name.slot] = item;
    return CENTO_OK;
}

/* That all a.b of a target are namespaces is asked before the value is computed. */
static cento_status check_namespaces(render *r, frame *f, const node *target) {
    value object;
    if (target->type == NODE_TUPLE) {
        for (const node *item = target->as.list.items; item != NULL; item = item->next)
            TRY(check_namespaces(r, f, item));
    } else if (target->type == NODE_NAMESPACE_ATTRIBUTE) {
        TRY(load_name(f, target->as.attribute.object, &object));
        r->position = target->position;
        if (object.type != VALUE_NAMESPACE)
            return render_fail(r, "cannot assign attribute on non-namespace object");
    }
    return CENTO_OK;
}

static cento_status execute_set(render *r, frame *f, const node *n) {
    value item;
    TRY(check_namespaces(r, f, n->as.pair.left));
    TRY(template_eval(r, f, n->as.pair.right, &item));
    return template_assign(r, f, n->as.pair.left, item);
}

/* --------------------------------------------------------------------------------- loops ---- */

/* Moves the next item that passes the condition to loop->accepted; *found is false at the end. */
static cento_status loop_advance(render *r, loop_state *loop, bool *found) {
    const node_loop *definition = loop->definition->as.loop;
    *found = false;
    while (!*found && loop->source_next < loop->source_count) {
        value item = loop->source[loop->source_next++];
        *found = true;
        if (definition->test != NULL) {
            value passed;
            TRY(template_frame_enter(r, loop->test_frame));
            TRY(template_assign(r, loop->test_frame, definition->test_target, item));
            TRY(template_eval(r, loop->test_frame, definition->test, &passed));
            TRY(value_truth(r, passed, found));
        }
        if (*found)
            loop->accepted[loop->accepted_count++] = item;
    }
    return CENTO_OK;
}

cento_status template_loop_peek(render *r, loop_state *loop, bool *more) {
    *more = loop->index + 1 < loop->accepted_count;
    return *more ? CENTO_OK : loop_advance(r, loop, more);
}

cento_status template_loop_length(render *r, loop_state *loop, size_t *length) {
    for (bool more = true; more;)
        TRY(loop_advance(r, loop, &more));
    *length = loop->accepted_count;
    return CENTO_OK;
}

static cento_status loop_start(render *r, frame *f, const node *n, value iterable, int64_t depth,
                               loop_state **result) {
    loop_state *loop = render_alloc(r, 1, sizeof *loop);
    if (loop == NULL)
        return render_memory(r);
    *loop = (loop_state){.depth = depth, .definition = n, .outer = f};
    TRY(value_items(r, iterable, &loop->source, &loop->source_count));
    loop->accepted = render_alloc(r, loop->source_count, sizeof *loop->accepted);
    if (loop->accepted == NULL)
        return render_memory(r);
    if (n->as.loop->test != NULL)
        TRY(template_frame(r, n->as.loop->test_layout, f, &loop->test_frame));
    *result = loop;
    return render_step(r, loop->source_count * sizeof *loop->accepted);
}

cento_status template_loop(render *r, frame *f, const node *n, value iterable, int64_t depth) {
    const node_loop *definition = n->as.loop;
    loop_state *loop;
    frame *body;
    bool finished = false; /* a body was gone through to its end */
    TRY(loop_start(r, f, n, iterable, depth, &loop));
    TRY(template_frame(r, definition->body_layout, f, &body));
    for (size_t i = 0;; i++) {
        bool more = i < loop->accepted_count;
        if (!more)
            TRY(loop_advance(r, loop, &more));
        if (!more)
            break;
        loop->index = i;
        TRY(template_frame_enter(r, body));
        body->slots[definition->loop_slot] = (value){.type = VALUE_LOOP, .as.loop = loop};
        TRY(template_assign(r, body, definition->target, loop->accepted[i]));
        TRY(template_execute(r, body, definition->body));
        flow ended = r->flow;
        r->flow = FLOW_ON;
        if (ended == FLOW_BREAK)
            break;
        if (ended == FLOW_ON)
            finished = true;
    }
    if (finished || definition->otherwise == NULL)
        return CENTO_OK;
    TRY(template_frame(r, definition->otherwise_layout, f, &body));
    TRY(template_frame_enter(r, body));
    return template_execute(r, body, definition->otherwise);
}

static cento_status execute_for(render *r, frame *f, const node *n) {
    value iterable;
    TRY(template_eval(r, f, n->as.loop->iterable, &iterable));
    r->position = n->as.loop->iterable->position;
    return template_loop(r, f, n, iterable, 0);
}

/* loop(items): the body of a recursive loop once more, as text. */
static cento_status call_loop(render *r, const loop_state *loop, const call_args *arguments, value *result) {
    if (!loop->definition->as.loop->recursive)
        return render_fail(r, "the loop must have the 'recursive' marker to be called recursively");
    if (arguments->count != 1 || arguments->keyword_count != 0)
        return render_fail(r, "loop() takes one argument");
    size_t begin = render_begin(r);
    TRY(render_enter(r));
    TRY(template_loop(r, loop->outer, loop->definition, arguments->positional[0], loop->depth + 1));
    render_leave(r);
    return render_end(r, begin, result);
}

/* -------------------------------------------------------------------------------- macros ---- */

static const value *find_keyword(const call_args *arguments, const string *name, bool *used) {
    for (size_t i = 0; i < arguments->keyword_count; i++) {
        if (arguments->keywords[i].name->bytes == name->bytes &&
            memcmp(arguments->keywords[i].name->data, name->data, name->bytes) == 0) {
            used[i] = true;
            return &arguments->keywords[i].item;
        }
    }
    return NULL;
}

static cento_status bind_special(render *r, const macro_value *m, frame *f, const call_args *arguments,
                                 bool *used) {
    static const string caller_name = {.data = "caller", .bytes = 6, .characters = 6};
    const node_macro *definition = m->definition;
    if (definition->uses_caller && !definition->declares_caller) {
        const value *caller = find_keyword(arguments, &caller_name, used);
        value *place = &f->slots[definition->caller_slot];
        if (caller != NULL && caller->type != VALUE_NONE)
            *place = *caller;
        else
            TRY(value_undefined(r, "No caller defined", NULL, value_none(), place));
    }
    dict *rest = NULL;
    if (definition->uses_keywords)
        TRY(dict_new(r, 0, &rest));
    for (size_t i = 0; i < arguments->keyword_count; i++) {
        const keyword_arg *given = &arguments->keywords[i];
        if (used[i])
            continue;
        if (rest == NULL)
            return render_fail(r, "macro '%s' takes no keyword argument '%s'",
                               definition->name == NULL ? "caller" : definition->name->data,
                               given->name->data);
        TRY(dict_set(r, rest, (value){.type = VALUE_TEXT, .as.text = given->name}, given->item));
    }
    if (rest != NULL)
        f->slots[definition->keywords_slot] = (value){.type = VALUE_DICT, .as.dict = rest};
    size_t taken =
        definition->parameter_count < arguments->count ? definition->parameter_count : arguments->count;
    if (definition->uses_rest)
        return value_sequence(r, VALUE_TUPLE,
                              taken == 0 ? arguments->positional : arguments->positional + taken,
                              arguments->count - taken, &f->slots[definition->rest_slot]);
    if (arguments->count > definition->parameter_count)
        return render_fail(r, "macro '%s' takes not more than %zu argument(s)",
                           definition->name == NULL ? "caller" : definition->name->data,
                           definition->parameter_count);
    return CENTO_OK;
}

static cento_status parameter_missing(render *r, const string *name, value *result) {
    size_t begin = render_begin(r);
    value message;
    TRY(render_append(r, "parameter '", 11));
    TRY(render_append(r, name->data, name->bytes));
    TRY(render_append(r, "' was not provided", 18));
    TRY(render_end(r, begin, &message));
    return value_undefined(r, message.as.text->data, NULL, value_none(), result);
}

/* Defaults are evaluated in the macro's frame, left to right, so that they may use what is before them. */
static cento_status bind_parameters(render *r, const macro_value *m, frame *f, const call_args *arguments,
                                    bool *used) {
    const node_macro *definition = m->definition;
    const value missing = {.type = VALUE_MISSING};
    size_t number = 0;
    for (const node *p = definition->parameters; p != NULL; p = p->next, number++) {
        const value *given = NULL;
        if (number < arguments->count)
            given = &arguments->positional[number];
        else
            given = find_keyword(arguments, p->as.name.name, used);
        f->slots[p->as.name.slot] = given == NULL ? missing : *given;
    }
    TRY(bind_special(r, m, f, arguments, used));
    const node *default_value = definition->defaults;
    number = 0;
    for (const node *p = definition->parameters; p != NULL; p = p->next, number++) {
        bool has_default = number >= definition->parameter_count - definition->default_count;
        value *place = &f->slots[p->as.name.slot];
        if (place->type == VALUE_MISSING) {
            if (has_default)
                TRY(template_eval(r, f, default_value, place));
            else
                TRY(parameter_missing(r, p->as.name.name, place));
        }
        if (has_default)
            default_value = default_value->next;
    }
    return CENTO_OK;
}

static cento_status call_macro(render *r, const macro_value *m, const call_args *arguments, value *result) {
    frame *f;
    bool *used = render_alloc(r, arguments->keyword_count, sizeof *used);
    if (used == NULL)
        return render_memory(r);
    TRY(render_enter(r));
    TRY(template_frame(r, m->definition->layout, m->outer, &f));
    TRY(template_frame_enter(r, f));
    TRY(bind_parameters(r, m, f, arguments, used));
    size_t begin = render_begin(r);
    TRY(template_execute(r, f, m->definition->body));
    render_leave(r);
    return render_end(r, begin, result);
}

static cento_status make_macro(render *r, frame *f, const node *n, value *result) {
    macro_value *made = render_alloc(r, 1, sizeof *made);
    if (made == NULL)
        return render_memory(r);
    *made = (macro_value){.definition = n->as.macro, .outer = f};
    *result = (value){.type = VALUE_MACRO, .as.macro = made};
    return CENTO_OK;
}

cento_status template_call(render *r, value callee, const call_args *arguments, value *result) {
    switch (callee.type) {
    case VALUE_FUNCTION:
        if (callee.as.function->function == NULL)
            return render_fail(r, "the function '%s' is not supported", callee.as.function->name);
        return builtin_call(r, callee.as.function, callee, arguments, result);
    case VALUE_METHOD:
        return builtin_call(r, callee.as.method->function, callee.as.method->self, arguments, result);
    case VALUE_MACRO:
        return call_macro(r, callee.as.macro, arguments, result);
    case VALUE_LOOP:
        return call_loop(r, callee.as.loop, arguments, result);
    case VALUE_JOINER:
        if (arguments->count > 0 || arguments->keyword_count > 0)
            return render_fail(r, "a joiner takes no arguments");
        if (callee.as.joiner->used) {
            *result = callee.as.joiner->separator;
            return CENTO_OK;
        }
        callee.as.joiner->used = true;
        return value_text(r, "", 0, result);
    case VALUE_UNDEFINED:
        return value_undefined_fail(r, callee);
    default:
        return render_fail(r, "'%s' object is not callable", value_type_name(callee));
    }
}

/* -------------------------------------------------------------------------------- blocks ---- */

static cento_status execute_call_block(render *r, frame *f, const node *n) {
    value block, text_made;
    TRY(make_macro(r, f, n, &block));
    if (n->as.macro->call != NULL) {
        TRY(template_call_node(r, f, n->as.macro->call, &block, &text_made));
    } else {
        static const call_args none = {.count = 0};
        TRY(call_macro(r, block.as.macro, &none, &text_made));
    }
    return value_print(r, text_made);
}

/* A block whose text goes through filters, and then out or into a variable. */
static cento_status execute_block(render *r, frame *f, const node *n) {
    const node_block *block = n->as.block;
    frame *inner;
    value captured;
    TRY(template_frame(r, block->layout, f, &inner));
    TRY(template_frame_enter(r, inner));
    size_t begin = render_begin(r);
    TRY(template_execute(r, inner, block->body));
    TRY(render_end(r, begin, &captured));
    if (r->flow != FLOW_ON) /* break in the block: its text is lost, as in Jinja */
        return CENTO_OK;
    if (block->filter != NULL)
        TRY(template_eval_filter(r, inner, block->filter, &captured, &captured));
    if (n->type == NODE_SET_BLOCK)
        return template_assign(r, f, block->target, captured);
    return value_print(r, captured);
}

static cento_status execute_with(render *r, frame *f, const node *n) {
    const node_block *block = n->as.block;
    frame *inner;
    TRY(template_frame(r, block->layout, f, &inner));
    TRY(template_frame_enter(r, inner));
    for (const node *assignment = block->assignments; assignment != NULL; assignment = assignment->next) {
        value item;
        TRY(template_eval(r, f, assignment->as.pair.right, &item));
        TRY(template_assign(r, inner, assignment->as.pair.left, item));
    }
    return template_execute(r, inner, block->body);
}

/* ---------------------------------------------------------------------------- statements ---- */

static cento_status execute_output(render *r, frame *f, const node *n) {
    for (const node *item = n->as.list.items; item != NULL; item = item->next) {
        value printed;
        TRY(template_eval(r, f, item, &printed));
        r->position = item->position;
        TRY(value_print(r, printed));
    }
    return CENTO_OK;
}

static cento_status execute_if(render *r, frame *f, const node *n) {
    for (;;) {
        value test;
        bool truth;
        TRY(template_eval(r, f, n->as.condition.test, &test));
        TRY(value_truth(r, test, &truth));
        if (truth)
            return template_execute(r, f, n->as.condition.then);
        const node *otherwise = n->as.condition.otherwise;
        if (otherwise == NULL || otherwise->type != NODE_IF || otherwise->next != NULL)
            return template_execute(r, f, otherwise);
        n = otherwise;
    }
}

static cento_status execute_statement(render *r, frame *f, const node *n) {
    value made;
    switch ((node_type)n->type) {
    case NODE_OUTPUT:
        return execute_output(r, f, n);
    case NODE_SET:
        return execute_set(r, f, n);
    case NODE_SET_BLOCK:
    case NODE_FILTER_BLOCK:
        return execute_block(r, f, n);
    case NODE_FOR:
        return execute_for(r, f, n);
    case NODE_IF:
        return execute_if(r, f, n);
    case NODE_WITH:
        return execute_with(r, f, n);
    case NODE_MACRO:
        TRY(make_macro(r, f, n, &made));
        return template_assign(r, f, n->as.macro->target, made);
    case NODE_CALL_BLOCK:
        return execute_call_block(r, f, n);
    case NODE_BREAK:
        r->flow = FLOW_BREAK;
        return CENTO_OK;
    case NODE_CONTINUE:
        r->flow = FLOW_CONTINUE;
        return CENTO_OK;
    default:
        return render_fail(r, "not a statement");
    }
}

cento_status template_execute(render *r, frame *f, const node *body) {
    TRY(render_enter(r));
    for (; body != NULL && r->flow == FLOW_ON; body = body->next) {
        r->position = body->position;
        TRY(render_step(r, 0));
        TRY(execute_statement(r, f, body));
    }
    render_leave(r);
    return CENTO_OK;
}
