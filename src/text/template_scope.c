/*
 * Names to slots. Jinja decides while compiling which variable a name means, and so do we, by its
 * rules:
 *
 *   - the template, a loop's body, its else, its condition, a macro, a call block, a filter block, a
 *     block set and a with block have a frame each; {% if %} has none;
 *   - a name that is assigned to anywhere in a frame is a variable of that frame. It begins as a copy of
 *     the same variable further out, if there is one;
 *   - else it begins as the context's variable if it was read, or assigned to inside of an {% if %},
 *     before it was assigned to otherwise; and as nothing if not. So what a loop reads before a later
 *     {% set %} at the same level as the loop is undefined, even if the context has it;
 *   - all other names are those of the frames further out, or the context's.
 *
 * Each frame is walked twice: to collect its variables, then to resolve its names. Frames inside are
 * left out of the first walk. Runs while compiling.
 */
#include "template.h"

#define VARIABLES_MAX 4096

typedef struct scope {
    struct scope *outer;
    layout *made;
    size_t capacity;      /* of made->slots */
    uint32_t conditional; /* {% if %}s around, within this frame */
    bool collecting;
} scope;

static cento_status walk(compiler *c, scope *s, node *n);
static cento_status walk_body(compiler *c, scope *s, node *body);

static bool find_in(const scope *s, const string *name, uint16_t *slot_number) {
    for (size_t i = 0; i < s->made->count; i++) {
        if (s->made->slots[i].name == name) {
            *slot_number = (uint16_t)i;
            return true;
        }
    }
    return false;
}

static bool find(const scope *s, const string *name, uint16_t *hops, uint16_t *slot_number) {
    *hops = 0;
    for (; s != NULL; s = s->outer, (*hops)++)
        if (find_in(s, name, slot_number))
            return true;
    return false;
}

static cento_status add_slot(compiler *c, scope *s, size_t position, slot added) {
    layout *made = s->made;
    if (made->count == VARIABLES_MAX)
        return compile_fail(c, position, "more than %d variables", VARIABLES_MAX);
    if (made->count == s->capacity) {
        size_t capacity = s->capacity == 0 ? 8 : s->capacity * 2;
        slot *slots = compile_alloc(c, capacity, sizeof *slots);
        if (slots == NULL)
            return compile_memory(c);
        for (size_t i = 0; i < made->count; i++)
            slots[i] = made->slots[i];
        made->slots = slots;
        s->capacity = capacity;
    }
    made->slots[made->count++] = added;
    return CENTO_OK;
}

static cento_status declare_parameter(compiler *c, scope *s, size_t position, const string *name,
                                      uint16_t *number) {
    if (find_in(s, name, number)) {
        s->made->slots[*number].source = SLOT_PARAMETER;
        return CENTO_OK;
    }
    TRY(add_slot(c, s, position, (slot){.name = name, .source = SLOT_PARAMETER}));
    *number = (uint16_t)(s->made->count - 1);
    return CENTO_OK;
}

static cento_status declare_target(compiler *c, scope *s, const node *target) {
    uint16_t number;
    if (target->type == NODE_NAME)
        return declare_parameter(c, s, target->position, target->as.name.name, &number);
    for (const node *item = target->as.list.items; item != NULL; item = item->next)
        TRY(declare_target(c, s, item));
    return CENTO_OK;
}

static cento_status collect_name(compiler *c, scope *s, const node *n) {
    uint16_t hops, number;
    const string *name = n->as.name.name;
    if (n->as.name.use == NAME_LOAD) {
        if (find(s, name, &hops, &number))
            return CENTO_OK;
        return add_slot(c, s, n->position, (slot){.name = name, .source = SLOT_CONTEXT});
    }
    if (find_in(s, name, &number))
        return CENTO_OK;
    slot added = {.name = name, .source = s->conditional > 0 ? SLOT_CONTEXT : SLOT_NOTHING};
    if (s->outer != NULL && find(s->outer, name, &hops, &number)) {
        added.source = SLOT_OUTER;
        added.hops = (uint16_t)(hops + 1);
        added.outer = number;
    }
    return add_slot(c, s, n->position, added);
}

static cento_status walk_name(compiler *c, scope *s, node *n) {
    if (s->collecting)
        return collect_name(c, s, n);
    if (!find(s, n->as.name.name, &n->as.name.hops, &n->as.name.slot))
        return compile_fail(c, n->position, "the variable '%s' was not found", n->as.name.name->data);
    return CENTO_OK;
}

/* ----------------------------------------------------------------------------- frames ---- */

static cento_status scope_begin(compiler *c, scope *s, scope *outer, layout **made) {
    *made = compile_alloc(c, 1, sizeof **made);
    if (*made == NULL)
        return compile_memory(c);
    *s = (scope){.outer = outer, .made = *made, .collecting = true};
    return CENTO_OK;
}

static cento_status resolve_body(compiler *c, scope *s, node *body) {
    s->collecting = true;
    TRY(walk_body(c, s, body));
    s->collecting = false;
    return walk_body(c, s, body);
}

static cento_status copy_target(compiler *c, const node *target, node **copy) {
    TRY(compile_node(c, (node_type)target->type, target->position, copy));
    **copy = *target;
    (*copy)->next = NULL;
    if (target->type != NODE_TUPLE)
        return CENTO_OK;
    node_list items = {0};
    for (const node *item = target->as.list.items; item != NULL; item = item->next) {
        node *item_copy;
        TRY(copy_target(c, item, &item_copy));
        node_list_add(&items, item_copy);
    }
    (*copy)->as.list.items = items.first;
    return CENTO_OK;
}

static cento_status resolve_for(compiler *c, scope *outer, node *n) {
    node_loop *loop = n->as.loop;
    scope s;
    const string *name;
    TRY(compile_name(c, "loop", 4, &name));
    if (loop->test != NULL) {
        TRY(copy_target(c, loop->target, &loop->test_target));
        TRY(scope_begin(c, &s, outer, &loop->test_layout));
        TRY(declare_target(c, &s, loop->test_target));
        TRY(walk(c, &s, loop->test));
        s.collecting = false;
        TRY(walk(c, &s, loop->test_target));
        TRY(walk(c, &s, loop->test));
    }
    if (loop->otherwise != NULL) {
        TRY(scope_begin(c, &s, outer, &loop->otherwise_layout));
        TRY(resolve_body(c, &s, loop->otherwise));
    }
    TRY(scope_begin(c, &s, outer, &loop->body_layout));
    TRY(declare_parameter(c, &s, n->position, name, &loop->loop_slot));
    TRY(declare_target(c, &s, loop->target));
    TRY(resolve_body(c, &s, loop->body));
    return walk(c, &s, loop->target);
}

static cento_status resolve_macro(compiler *c, scope *outer, node *n) {
    node_macro *macro = n->as.macro;
    scope s;
    TRY(scope_begin(c, &s, outer, &macro->layout));
    for (node *parameter = macro->parameters; parameter != NULL; parameter = parameter->next)
        TRY(declare_target(c, &s, parameter));
    const struct {
        bool used;
        const char *name;
        uint16_t *slot;
    } special[] = {
        {macro->uses_caller && !macro->declares_caller, "caller", &macro->caller_slot},
        {macro->uses_keywords, "kwargs", &macro->keywords_slot},
        {macro->uses_rest, "varargs", &macro->rest_slot},
    };
    for (size_t i = 0; i < 3; i++) {
        const string *name;
        if (!special[i].used)
            continue;
        TRY(compile_name(c, special[i].name, i == 2 ? 7 : 6, &name));
        TRY(declare_parameter(c, &s, n->position, name, special[i].slot));
    }
    TRY(walk_body(c, &s, macro->defaults));
    TRY(walk_body(c, &s, macro->body));
    s.collecting = false;
    TRY(walk_body(c, &s, macro->parameters));
    TRY(walk_body(c, &s, macro->defaults));
    return walk_body(c, &s, macro->body);
}

static cento_status resolve_block(compiler *c, scope *outer, node *n) {
    node_block *block = n->as.block;
    scope s;
    TRY(scope_begin(c, &s, outer, &block->layout));
    for (node *assignment = block->assignments; assignment != NULL; assignment = assignment->next)
        TRY(declare_target(c, &s, assignment->as.pair.left));
    TRY(walk_body(c, &s, block->body));
    if (block->filter != NULL)
        TRY(walk(c, &s, block->filter));
    s.collecting = false;
    for (node *assignment = block->assignments; assignment != NULL; assignment = assignment->next)
        TRY(walk(c, &s, assignment->as.pair.left));
    TRY(walk_body(c, &s, block->body));
    return block->filter == NULL ? CENTO_OK : walk(c, &s, block->filter);
}

/* ------------------------------------------------------------------------------ walking ---- */

static cento_status walk_call(compiler *c, scope *s, node_call *call) {
    if (call->callee != NULL)
        TRY(walk(c, s, call->callee));
    TRY(walk_body(c, s, call->positional));
    TRY(walk_body(c, s, call->keywords));
    if (call->star != NULL)
        TRY(walk(c, s, call->star));
    return call->double_star == NULL ? CENTO_OK : walk(c, s, call->double_star);
}

static cento_status walk_if(compiler *c, scope *s, node *n) {
    for (;;) {
        TRY(walk(c, s, n->as.condition.test));
        s->conditional++;
        TRY(walk_body(c, s, n->as.condition.then));
        s->conditional--;
        node *otherwise = n->as.condition.otherwise;
        if (otherwise == NULL)
            return CENTO_OK;
        if (otherwise->type == NODE_IF && otherwise->next == NULL) { /* elif: no deeper */
            n = otherwise;
            continue;
        }
        s->conditional++;
        TRY(walk_body(c, s, otherwise));
        s->conditional--;
        return CENTO_OK;
    }
}

static cento_status walk_pair(compiler *c, scope *s, node *n) {
    TRY(walk(c, s, n->as.pair.left));
    return n->as.pair.right == NULL ? CENTO_OK : walk(c, s, n->as.pair.right);
}

static cento_status walk_slice(compiler *c, scope *s, node *n) {
    node *const parts[] = {n->as.slice.object, n->as.slice.start, n->as.slice.stop, n->as.slice.step};
    for (size_t i = 0; i < 4; i++)
        if (parts[i] != NULL)
            TRY(walk(c, s, parts[i]));
    return CENTO_OK;
}

static cento_status walk_with_values(compiler *c, scope *s, node_block *block) {
    for (node *assignment = block->assignments; assignment != NULL; assignment = assignment->next)
        TRY(walk(c, s, assignment->as.pair.right));
    return CENTO_OK;
}

static cento_status walk(compiler *c, scope *s, node *n) {
    switch ((node_type)n->type) {
    case NODE_CONSTANT:
    case NODE_BREAK:
    case NODE_CONTINUE:
        return CENTO_OK;
    case NODE_NAME:
        return walk_name(c, s, n);
    case NODE_LIST:
    case NODE_TUPLE:
    case NODE_DICT:
    case NODE_CONCATENATE:
    case NODE_COMPARE:
    case NODE_OUTPUT:
        return walk_body(c, s, n->as.list.items);
    case NODE_NEGATE:
    case NODE_POSITIVE:
    case NODE_NOT:
    case NODE_AND:
    case NODE_OR:
    case NODE_ARITHMETIC:
    case NODE_OPERAND:
    case NODE_ITEM:
        return walk_pair(c, s, n);
    case NODE_CONDITION:
        TRY(walk(c, s, n->as.condition.test));
        TRY(walk(c, s, n->as.condition.then));
        return n->as.condition.otherwise == NULL ? CENTO_OK : walk(c, s, n->as.condition.otherwise);
    case NODE_ATTRIBUTE:
    case NODE_KEYWORD:
    case NODE_NAMESPACE_ATTRIBUTE:
        return walk(c, s, n->as.attribute.object);
    case NODE_SLICE:
        return walk_slice(c, s, n);
    case NODE_CALL:
    case NODE_FILTER:
    case NODE_TEST:
        return walk_call(c, s, n->as.call);
    case NODE_SET:
        TRY(walk(c, s, n->as.pair.right));
        return walk(c, s, n->as.pair.left);
    case NODE_SET_BLOCK:
        TRY(walk(c, s, n->as.block->target));
        return s->collecting ? CENTO_OK : resolve_block(c, s, n);
    case NODE_FILTER_BLOCK:
        return s->collecting ? walk(c, s, n->as.block->filter) : resolve_block(c, s, n);
    case NODE_WITH:
        TRY(walk_with_values(c, s, n->as.block));
        return s->collecting ? CENTO_OK : resolve_block(c, s, n);
    case NODE_FOR:
        TRY(walk(c, s, n->as.loop->iterable));
        return s->collecting ? CENTO_OK : resolve_for(c, s, n);
    case NODE_IF:
        return walk_if(c, s, n);
    case NODE_MACRO:
        TRY(walk(c, s, n->as.macro->target));
        return s->collecting ? CENTO_OK : resolve_macro(c, s, n);
    case NODE_CALL_BLOCK:
        if (n->as.macro->call != NULL)
            TRY(walk(c, s, n->as.macro->call));
        return s->collecting ? CENTO_OK : resolve_macro(c, s, n);
    }
    return CENTO_OK;
}

static cento_status walk_body(compiler *c, scope *s, node *body) {
    for (; body != NULL; body = body->next)
        TRY(walk(c, s, body));
    return CENTO_OK;
}

cento_status template_resolve_names(compiler *c) {
    scope s;
    TRY(scope_begin(c, &s, NULL, &c->compiled->layout));
    return resolve_body(c, &s, c->compiled->body);
}
