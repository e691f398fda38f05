/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/attachment.c - judges attachments by name, by what they are and by what is in them.
 *
 * Names and first bytes are looked at here; whatever must be unpacked or followed goes to a process
 * that can do nothing else (content/unpacker.h). It tells facts, the judgement is ours.
 */
#include "flow/attachment.h"

#include "base/memory.h"
#include "content/unpacker.h"
#include "flow/blocks.h"
#include "mail/header.h"

#include <string.h>

/* The outcomes of the block: that of a fault is its number and one. */
enum { CLEAN };
enum { OUTCOME_OF_FAULT = 1, FINDINGS_MAX = 30 };

struct parameters {
    struct option_texts names, except, types;
    bool inside;
    int64_t depth;
    int64_t ratio;
};

static const struct option options[] = {
    {.name = "names",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct parameters, names),
     .text = "file names that are forbidden, as patterns with * and ?: \"*.scr\"; dangerous stands "
             "for the extensions of what runs something when it is opened:" FILENAME_DANGEROUS
             "and classes of the Windows shell",
     .fallback = "dangerous"},
    {.name = "except",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct parameters, except),
     .text = "file names that are allowed all the same; what the files are still counts"},
    {.name = "types",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct parameters, types),
     .text = "what may not be attached, by its content: executable, script, archive, disk-image, "
             "office, pdf, image, audio-video, text, or a media type with * and ?, which is "
             "compared with the Content-Type, too",
     .fallback = "executable"},
    {.name = "inside",
     .type = OPTION_BOOL,
     .offset = offsetof(struct parameters, inside),
     .text = "look into archives and Office documents",
     .fallback = "true"},
    {.name = "depth",
     .type = OPTION_INT,
     .offset = offsetof(struct parameters, depth),
     .text = "archives in archives: how many of them are opened; deeper is the outcome limit",
     .fallback = "5",
     .min = 1,
     .max = UNPACK_DEPTH_MAX},
    {.name = "ratio",
     .type = OPTION_INT,
     .offset = offsetof(struct parameters, ratio),
     .text = "an archive that unpacks to more than 10 MiB and to more than so many times its size "
             "is the outcome limit; 0: only content.limits count",
     .fallback = "100",
     .min = 0,
     .max = 100000},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "attachment",
    .text = "Judges attachments by their names, by what they are and by what is in them.",
    .options = options,
    .size = sizeof(struct parameters),
};

static const struct flow_outcome outcomes[] = {
    [CLEAN] = {.name = "clean",
               .key = "clean",
               .action = ACTION_NEXT,
               .text = "nothing was found, or there are no attachments"},
    [ATTACHMENT_FORBIDDEN + OUTCOME_OF_FAULT] =
        {.name = "forbidden",
         .key = "forbidden",
         .action = ACTION_REJECT,
         .reply = "554 5.7.1 An attachment is of a kind that is not accepted here",
         .reason = MAIL_REASON_ATTACHMENT,
         .text = "a file with a forbidden name or of a forbidden type, attached or in an archive"},
    [ATTACHMENT_DISGUISED + OUTCOME_OF_FAULT] =
        {.name = "disguised",
         .key = "disguised",
         .action = ACTION_REJECT,
         .reply = "554 5.7.1 An attachment hides what it is",
         .reason = MAIL_REASON_ATTACHMENT,
         .text = "a name that hides its end or its extension, or a program under a harmless name"},
    [ATTACHMENT_LIMIT + OUTCOME_OF_FAULT] =
        {.name = "limit",
         .key = "limit",
         .action = ACTION_REJECT,
         .reply = "554 5.7.1 An attachment is too large or too deep to be looked into",
         .reason = MAIL_REASON_ATTACHMENT,
         .text = "not all was seen: over depth, over ratio, over content.limits, or it took more "
                 "than 5 s of CPU"},
    [ATTACHMENT_ERROR +
        OUTCOME_OF_FAULT] = {.name = "error",
                             .key = "error",
                             .action = ACTION_DEFER,
                             .reply =
                                 "451 4.3.0 The attachments cannot be looked into, try again later",
                             .reason = MAIL_REASON_BACKEND_DOWN,
                             .text = "the process that looks into archives gave no answer"},
    [ATTACHMENT_MACRO +
        OUTCOME_OF_FAULT] = {.name = "macro",
                             .key = "macro",
                             .action = ACTION_NEXT,
                             .reply = "554 5.7.1 Documents with macros are not accepted here",
                             .reason = MAIL_REASON_ATTACHMENT,
                             .text = "an Office document with macros"},
    [ATTACHMENT_ENCRYPTED +
        OUTCOME_OF_FAULT] = {.name = "encrypted",
                             .key = "encrypted",
                             .action = ACTION_NEXT,
                             .reply =
                                 "554 5.7.1 Encrypted archives and documents are not accepted here",
                             .reason = MAIL_REASON_ATTACHMENT,
                             .text = "an archive or an Office document that only a password opens"},
    [ATTACHMENT_UNREADABLE + OUTCOME_OF_FAULT] =
        {.name = "unreadable",
         .key = "unreadable",
         .action = ACTION_NEXT,
         .reply = "554 5.7.1 An attachment cannot be read",
         .reason = MAIL_REASON_ATTACHMENT,
         .text = "an archive that is damaged or of a kind that cannot be opened here, a piece of a "
                 "message, a message in base64, an unknown transfer encoding, or a part that says "
                 "twice what it is"},
    [ATTACHMENT_MISMATCH + OUTCOME_OF_FAULT] =
        {.name = "mismatch",
         .key = "mismatch",
         .action = ACTION_NEXT,
         .reply = "554 5.7.1 An attachment is not what it says that it is",
         .reason = MAIL_REASON_ATTACHMENT,
         .text = "the content is of another kind than the name or the Content-Type says"},
    {.name = NULL},
};
static const char *const finding_names[ATTACHMENT_NONE] = {
    [ATTACHMENT_FORBIDDEN] = "attachment-forbidden",
    [ATTACHMENT_DISGUISED] = "attachment-disguised",
    [ATTACHMENT_LIMIT] = "attachment-limit",
    [ATTACHMENT_ERROR] = "attachment-error",
    [ATTACHMENT_MACRO] = "attachment-macro",
    [ATTACHMENT_ENCRYPTED] = "attachment-encrypted",
    [ATTACHMENT_UNREADABLE] = "attachment-unreadable",
    [ATTACHMENT_MISMATCH] = "attachment-mismatch",
};

/* ---- compiling ---- */

static void add_pattern(struct attachment_patterns *patterns, struct str pattern,
                        struct arena *arena, size_t room)
{
    if (!patterns->items)
        patterns->items = arena_alloc_array(arena, room, sizeof *patterns->items);
    ((struct str *)patterns->items)[patterns->count++] = arena_lower(arena, pattern);
}

static bool is_short(struct flow_compiling *compiling, const struct option_texts *texts)
{
    if (texts->count <= ATTACHMENT_PATTERNS_MAX)
        return true;
    flow_problem(compiling, CONFIG_ERROR, "too-long", texts->places[0], "at most %d patterns",
                 ATTACHMENT_PATTERNS_MAX);
    return false;
}

static void compile_names(struct flow_compiling *compiling, const struct option_texts *texts,
                          struct attachment_patterns *patterns, bool *out_dangerous)
{
    for (size_t i = 0; is_short(compiling, texts) && i < texts->count; i++) {
        struct str text = texts->items[i];
        if (out_dangerous && str_equal(text, STR("dangerous"))) {
            *out_dangerous = true;
            continue;
        }
        if (str_find(text, '*') < 0 && str_find(text, '?') < 0 && str_find(text, '.') < 0) {
            struct config_problem *problem =
                flow_problem(compiling, CONFIG_ERROR, "wrong-value", texts->places[i],
                             "\"%.*s\" is no pattern of file names", STR_ARG(text));
            problem->fix = flow_fix(compiling, "write \"*.%.*s\"", STR_ARG(text));
            continue;
        }
        add_pattern(patterns, text, compiling->context->option.arena, texts->count);
    }
}

static void compile_types(struct flow_compiling *compiling, const struct option_texts *texts,
                          struct attachment_rules *rules)
{
    for (size_t i = 0; is_short(compiling, texts) && i < texts->count; i++) {
        struct str text = texts->items[i];
        enum filetype_group group;
        if (filetype_group_find(text, &group) && group != FILETYPE_NONE)
            rules->groups |= 1u << group;
        else if (str_find(text, '/') > 0)
            add_pattern(&rules->types, text, compiling->context->option.arena, texts->count);
        else
            flow_problem(compiling, CONFIG_ERROR, "wrong-value", texts->places[i],
                         "\"%.*s\" is neither a kind of file nor a media type", STR_ARG(text));
    }
}

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    struct attachment_rules *rules =
        ARENA_NEW(compiling->context->option.arena, struct attachment_rules);
    (void)node;
    compile_names(compiling, &parameters->names, &rules->names, &rules->dangerous_names);
    compile_names(compiling, &parameters->except, &rules->except, NULL);
    compile_types(compiling, &parameters->types, rules);
    step->prepared = rules;
}

/* ---- running ---- */

struct looking {
    struct flow_running *running;
    const struct flow_step *step;
    const struct attachment_rules *rules;
    enum attachment_fault worst;
    struct str detail; /* of the worst */
    unsigned findings;
    struct unpacking *unpacking; /* NULL: none was needed yet */
    bool gave_up;                /* it died or took too long: no more archives */
    /* the file at work */
    const struct mime_message *message;
    const struct mime_part *part;
    struct filename_list names;
    struct str shown; /* its name, fit for a trace */
};

static struct arena *arena_of(const struct looking *looking)
{
    return looking->running->run->arena;
}

static void found(struct looking *looking, enum attachment_fault fault, struct str text)
{
    if (fault == ATTACHMENT_NONE)
        return;
    if (looking->findings++ < FINDINGS_MAX)
        flow_add_finding(looking->running, looking->step, str_c(finding_names[fault]), text);
    if (fault >= looking->worst)
        return;
    looking->worst = fault;
    looking->detail = text;
}

/* "x.exe in a.zip: why" */
static void found_in_file(struct looking *looking, enum attachment_fault fault, struct str member,
                          const char *why)
{
    struct arena *arena = arena_of(looking);
    if (fault == ATTACHMENT_NONE || (looking->findings >= FINDINGS_MAX && fault >= looking->worst))
        return;
    struct str inner = filename_printable(member, arena);
    found(looking, fault,
          arena_printf(arena, "%.*s%s%.*s: %s", STR_ARG(inner), inner.len ? " in " : "",
                       STR_ARG(looking->shown), why));
}

static void judge(struct looking *looking, struct str member, const struct filename *name,
                  enum filetype type, struct str declared)
{
    const char *why = "";
    enum attachment_fault fault = ATTACHMENT_NONE;
    if (name) {
        fault = attachment_judge_name(looking->rules, name, &why);
        found_in_file(looking, fault, member, why);
    }
    fault = attachment_judge_type(looking->rules, type, declared, name, &why);
    found_in_file(looking, fault, member, why);
}

/* The attachment itself, by all of its names. */
static void judge_part(struct looking *looking, enum filetype type)
{
    struct mail_field field;
    struct str declared = mail_header_find(looking->part->header, STR("Content-Type"), &field)
                              ? looking->part->type
                              : STR_EMPTY;
    for (size_t i = 0; i < looking->names.count; i++) {
        struct filename name;
        filename_read(looking->names.items[i], arena_of(looking), &name);
        judge(looking, STR_EMPTY, &name, type, declared);
    }
    if (!looking->names.count)
        judge(looking, STR_EMPTY, NULL, type, declared);
}

/* ---- what is in it ---- */

static void tell_flags(struct looking *looking, const struct unpack_member *member)
{
    static const struct {
        unsigned flag;
        enum attachment_fault fault;
        const char *why;
    } rows[] = {
        {UNPACK_OVER, ATTACHMENT_LIMIT, "too much to be looked at"},
        {UNPACK_MACRO, ATTACHMENT_MACRO, "macros"},
        {UNPACK_ENCRYPTED, ATTACHMENT_ENCRYPTED, "encrypted"},
        {UNPACK_UNREADABLE, ATTACHMENT_UNREADABLE, "cannot be read"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!(member->flags & rows[i].flag))
            continue;
        struct str why = filename_printable(member->why, arena_of(looking));
        found_in_file(looking, rows[i].fault, member->name,
                      why.len ? arena_c(arena_of(looking), why) : rows[i].why);
    }
}

/* The file that gzip and its like packed has the name of theirs, without its end. */
static struct str name_of_packed(const struct looking *looking)
{
    struct str name = looking->names.count ? looking->names.items[0] : STR_EMPTY;
    ptrdiff_t dot = str_find_last(name, '.');
    return dot > 0 ? str_slice(name, 0, (size_t)dot) : STR_EMPTY;
}

static enum result take_member(void *context, const struct unpack_member *told, struct error *err)
{
    struct looking *looking = context;
    struct unpack_member member = *told;
    tell_flags(looking, &member);
    if (member.depth == 0) {
        judge_part(looking, member.type); /* now known better than by its first bytes */
        return OK;
    }
    if (flow_spend(looking->running, FLOW_BUDGET_PARTS, 1, err) != OK)
        return FAILED;
    if (!member.name.len && member.depth == 1)
        member.name = name_of_packed(looking);
    struct filename name;
    filename_read(member.name, arena_of(looking), &name);
    judge(looking, member.name, member.name.len ? &name : NULL, member.type, STR_EMPTY);
    return OK;
}

static struct unpack_limits limits_left(const struct looking *looking)
{
    const struct parameters *parameters = looking->step->parameters;
    const struct flow_limits *limits = flow_limits_of(looking->running);
    const struct flow_spent *spent = &looking->running->spent;
    int64_t members = limits->parts - spent->parts;
    int64_t depth = parameters->depth < limits->depth ? parameters->depth : limits->depth;
    return (struct unpack_limits){
        .depth = (unsigned)depth,
        .ratio = (uint64_t)parameters->ratio,
        .members = members > 0 ? (uint64_t)members : 0,
        .bytes = limits->decoded > spent->decoded ? limits->decoded - spent->decoded : 0,
    };
}

static MAY_YIELD enum result begin_unpacking(struct looking *looking, struct error *err)
{
    const struct unpack_limits limits = limits_left(looking);
    if (!looking->unpacking &&
        unpacking_open(looking->running->run->unpacker, &looking->unpacking, err) != OK)
        return FAILED;
    return unpacking_begin(looking->unpacking, &limits, err);
}

/* ---- one part ---- */

struct reading { /* of a part's content */
    struct looking *looking;
    char *head;
    size_t len;
    bool decided;
    bool unpacks;
    bool enough; /* what stands behind is of no interest */
};

static bool calls_itself_archive(const struct looking *looking)
{
    enum filetype_group by_type = filetype_group_of_media_type(looking->part->type);
    for (size_t i = 0; i < looking->names.count; i++) {
        struct filename name;
        filename_read(looking->names.items[i], arena_of(looking), &name);
        enum filetype_group by_name = filetype_group_of_extension(name.extension);
        if (by_name == FILETYPE_ARCHIVE || by_name == FILETYPE_DISK)
            return true;
    }
    return by_type == FILETYPE_ARCHIVE || by_type == FILETYPE_DISK;
}

/* Can a process be asked? In a rehearsal there may be none: the trace says so. */
static bool may_unpack(struct looking *looking)
{
    const struct parameters *parameters = looking->step->parameters;
    const struct flow_run *run = looking->running->run;
    if (!parameters->inside || looking->gave_up)
        return false;
    if (run->unpacker || !directory_is_stated(run->directory))
        return true;
    if (!looking->detail.len)
        looking->detail = STR("archives are not looked into here");
    return false;
}

/* The head is complete, or the file is as short as it. */
static MAY_YIELD enum result decide(struct reading *reading, struct error *err)
{
    struct looking *looking = reading->looking;
    struct str head = str_of(reading->head, reading->len);
    enum filetype type = filetype_of(head);
    bool packed = filetype_is_container(type) ||
                  (type == FILETYPE_UNKNOWN && reading->len && calls_itself_archive(looking));
    reading->decided = true;
    reading->unpacks = packed && may_unpack(looking);
    reading->enough = !reading->unpacks;
    if (!reading->unpacks) {
        judge_part(looking, type);
        return OK;
    }
    return begin_unpacking(looking, err) == OK ? unpacking_write(looking->unpacking, head, err)
                                               : FAILED;
}

static MAY_YIELD enum result take_data(void *context, struct str data, struct error *err)
{
    struct reading *reading = context;
    struct looking *looking = reading->looking;
    if (flow_spend(looking->running, FLOW_BUDGET_DECODED, data.len, err) != OK)
        return FAILED;
    if (!reading->decided) {
        size_t room = FILETYPE_HEAD_ISO - reading->len;
        struct str now = str_slice(data, 0, room);
        memcpy(reading->head + reading->len, now.ptr, now.len);
        reading->len += now.len;
        data = str_from(data, now.len);
        if (reading->len < FILETYPE_HEAD_ISO)
            return OK;
        if (decide(reading, err) != OK)
            return FAILED;
    }
    if (reading->enough) /* ends the reading; who called sees the mark */
        return fail(err, ERROR_CANCELLED, "enough was read");
    return unpacking_write(looking->unpacking, data, err);
}

static MAY_YIELD enum result look_at_content(struct looking *looking, char *head, struct error *err)
{
    struct reading reading = {.looking = looking, .head = head};
    struct unpack_spent spent = {0};
    enum result result = mime_decode(looking->message, looking->part, take_data, &reading, err);
    if (result != OK)
        return reading.enough ? OK : FAILED;
    if (!reading.decided && decide(&reading, err) != OK)
        return FAILED;
    if (!reading.unpacks)
        return OK;
    if (unpacking_finish(looking->unpacking, take_member, looking, &spent, err) != OK)
        return FAILED;
    /* its own word for it: a lie is cut at the limit */
    uint64_t max = flow_limits_of(looking->running)->decoded + 1;
    return flow_spend(looking->running, FLOW_BUDGET_DECODED, spent.bytes < max ? spent.bytes : max,
                      err);
}

/* What cannot be read as what it is, and a reader may put together. */
static void look_at_oddities(struct looking *looking)
{
    const struct mime_part *part = looking->part;
    static const char *const once[] = {"Content-Type", "Content-Transfer-Encoding",
                                       "Content-Disposition"};
    const char *why = NULL;
    for (size_t i = 0; i < sizeof once / sizeof *once; i++)
        if (mail_header_count(part->header, str_c(once[i])) > 1)
            why = "it says twice what it is";
    if (looking->names.cut)
        found_in_file(looking, ATTACHMENT_DISGUISED, STR_EMPTY,
                      "names that cannot be read to their end");
    struct str boundaries[2];
    bool cut;
    struct mail_field field;
    if (mail_header_find(part->header, STR("Content-Type"), &field) &&
        mime_parameters(mail_field_text(arena_of(looking), &field), "boundary", arena_of(looking),
                        boundaries, 2, &cut) > 1)
        why = "it says twice where its parts are";
    if (str_starts(part->type, STR("multipart/")) && !part->is_multipart)
        why = "parts that cannot be told apart";
    else if (str_equal(part->type, STR("message/partial")))
        why = "a piece of a message";
    else if (str_equal(part->type, STR("message/rfc822")) && !part->is_message)
        why = "a message in a transfer encoding";
    else if (part->encoding == MIME_UNKNOWN && !part->is_multipart)
        why = "an unknown transfer encoding";
    if (why)
        found_in_file(looking, ATTACHMENT_UNREADABLE, STR_EMPTY, why);
}

/* It ended badly: what that says of the message. */
static void take_failure(struct looking *looking, const struct error *err)
{
    bool over = err->kind == ERROR_LIMIT;
    unpacking_close(take(looking->unpacking));
    looking->gave_up = true;
    judge_part(looking, FILETYPE_UNKNOWN); /* its names, at least */
    found_in_file(looking, over ? ATTACHMENT_LIMIT : ATTACHMENT_ERROR, STR_EMPTY, err->text);
}

/* Has the message used up what may be decoded of it? */
static bool is_exhausted(const struct looking *looking)
{
    return looking->running->spent.decoded > flow_limits_of(looking->running)->decoded;
}

/* Also of a file that takes long no more than so much; the flow has its own time besides. */
static MAY_YIELD void look_within_time(struct looking *looking, char *head)
{
    struct scope scope;
    struct error err = {0};
    bool timed = fiber_current() != NULL;
    if (timed)
        scope_open(&scope, clock_deadline(UNPACKER_SECONDS * NS_PER_S));
    if (look_at_content(looking, head, &err) != OK)
        take_failure(looking, &err);
    if (timed)
        scope_close(&scope);
}

static MAY_YIELD void look_at_part(struct looking *looking, char *head)
{
    const struct mime_part *part = looking->part;
    struct arena *arena = arena_of(looking);
    filename_collect(part->header, arena, &looking->names);
    looking->shown = looking->names.count
                         ? filename_printable(looking->names.items[0], arena)
                         : arena_printf(arena, "a part without a name (%.*s)",
                                        STR_ARG(filename_printable(part->type, arena)));
    look_at_oddities(looking);
    /* a message is opened as one whatever its name, which is a subject that ends in .com at times
     */
    if (part->is_multipart || part->is_message)
        return;
    if (mime_is_text(part) && !looking->names.count)
        return;
    if (is_exhausted(looking))
        judge_part(looking, FILETYPE_UNKNOWN);
    else
        look_within_time(looking, head);
}

static MAY_YIELD enum result look(struct looking *looking, struct error *err)
{
    struct flow_running *running = looking->running;
    char *head = NULL;
    if (flow_mime(running, &looking->message, err) != OK)
        return FAILED;
    for (size_t i = 0; i < looking->message->count; i++) {
        size_t before = arena_used(arena_of(looking));
        if (!head)
            head = arena_alloc(arena_of(looking), FILETYPE_HEAD_ISO);
        looking->part = &looking->message->parts[i];
        look_at_part(looking, head);
        if (flow_is_over(err) || flow_spend(running, FLOW_BUDGET_MEMORY,
                                            arena_used(arena_of(looking)) - before, err) != OK)
            return FAILED;
    }
    return OK;
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    struct looking looking = {.running = running,
                              .step = step,
                              .rules = step->prepared,
                              .worst = ATTACHMENT_NONE,
                              .detail = STR_EMPTY,
                              .shown = STR("the message")};
    enum result result = look(&looking, err);
    unpacking_close(looking.unpacking);
    if (result != OK && err->kind != ERROR_LIMIT)
        return FAILED;
    if (result != OK)
        found(&looking, ATTACHMENT_LIMIT, arena_str(running->run->arena, str_c(err->text)));
    *out_outcome =
        looking.worst == ATTACHMENT_NONE ? CLEAN : (unsigned)looking.worst + OUTCOME_OF_FAULT;
    running->detail = looking.detail;
    return OK;
}

const struct flow_block flow_block_attachment = {
    .name = "attachment",
    .text = "judges attachments by name, by type and by what is in them",
    .flows = FLOW_IN_CONTENT,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .asks_world = true,
    .changes_field = flow_changes_any_field,
    .finds = true,
};
