/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/shadow.c - `postern shadow`: which of the last real decisions would another configuration
 * have made differently?
 *
 * The decisions come from the history, each with the values and answers of then; the candidate
 * makes them again. What the record does not say enough about is counted as open, never guessed.
 */
#include "base/clock.h"
#include "ctl/config.h"
#include "ctl/list.h"
#include "gateway/shadow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDS_MAX = 500, GROUPS_MAX = 200, EXAMPLES = 3, FORMER_MAX = 64, CAUSES_SHOWN = 10 };

struct group { /* decisions that change, or are open, in the same way */
    bool open;
    const char *kind;
    const char *before, *after;
    const char *where, *why;
    size_t count;
    const char *examples[EXAMPLES];
};

struct former {
    const char *revision;
    struct settings *settings; /* NULL: it is not kept, or cannot be read any more */
};

struct shadowing {
    struct ctl *ctl;
    struct settings *candidate;
    struct former formers[FORMER_MAX];
    size_t former_count;
    struct group groups[GROUPS_MAX];
    size_t group_count;
    json_t *seen; /* decisions stand in the story of a session and of its messages */
    size_t decisions, same, changed, open;

    /* of the story being read */
    json_t *steps;   /* since the last decision */
    json_t *headers; /* message.header, since the last message */
    json_t *waiting; /* message.accepted whose content is looked at later, from the queue */
    const char *tls;
    size_t messages;
};

/* ---- configurations ---- */

/* Relative paths start where the daemon takes them from. */
static struct settings *load_candidate(struct ctl *ctl, const char *path, const char *file)
{
    struct config_texts texts;
    struct config_report report;
    struct settings *settings = NULL;
    struct error err;
    config_report_init(&report, ctl->arena);
    if (!ctl_config_read(ctl, path, &texts))
        return NULL;
    ctl_config_place(ctl, &texts, file);
    if (settings_load_texts(&texts, &report, &settings, &err) != OK) {
        fprintf(stderr, "postern: %s: %s (postern check %s)\n", path, err.text, path);
        return NULL;
    }
    return settings;
}

static struct settings *load_former(struct ctl *ctl, const char *revision)
{
    struct config_texts texts;
    struct config_report report;
    struct settings *settings = NULL;
    struct error err;
    config_report_init(&report, ctl->arena);
    if (ctl_config_texts(ctl, revision, &texts) != CTL_YES ||
        settings_load_texts(&texts, &report, &settings, &err) != OK)
        return NULL;
    return settings;
}

static struct settings *find_former(struct shadowing *self, const char *revision)
{
    for (size_t i = 0; i < self->former_count; i++)
        if (strcmp(self->formers[i].revision, revision) == 0)
            return self->formers[i].settings;
    if (self->former_count == FORMER_MAX || !revision[0])
        return NULL;
    struct former *former = &self->formers[self->former_count++];
    former->revision = arena_c(self->ctl->arena, str_c(revision));
    former->settings = load_former(self->ctl, former->revision);
    return former->settings;
}

/* ---- results ---- */

static bool is_group(const struct group *group, bool open, const char *kind, const char *before,
                     const char *after, const char *where, const char *why)
{
    return group->open == open && strcmp(group->why, why) == 0 && strcmp(group->kind, kind) == 0 &&
           strcmp(group->before, before) == 0 && strcmp(group->after, after) == 0 &&
           strcmp(group->where, where) == 0;
}

static void count_in(struct shadowing *self, bool open, const char *kind, const char *before,
                     const char *after, const char *where, const char *why, const char *example)
{
    size_t i = 0;
    while (i < self->group_count &&
           !is_group(&self->groups[i], open, kind, before, after, where, why))
        i++;
    if (i == GROUPS_MAX)
        return;
    struct group *group = &self->groups[i];
    if (i == self->group_count) {
        self->group_count++;
        *group = (struct group){.open = open,
                                .kind = kind,
                                .before = arena_c(self->ctl->arena, str_c(before)),
                                .after = arena_c(self->ctl->arena, str_c(after)),
                                .where = arena_c(self->ctl->arena, str_c(where)),
                                .why = arena_c(self->ctl->arena, str_c(why))};
    }
    if (group->count < EXAMPLES)
        group->examples[group->count] = arena_c(self->ctl->arena, str_c(example));
    group->count++;
}

/* ---- one decision ---- */

/* All that the step found, if each is told as it was; a record of before there were any says
 * nothing. */
static void take_findings(struct shadowing *self, json_t *step, struct flow_recorded *out)
{
    json_t *found = json_object_get(step, "found");
    size_t i;
    json_t *finding;
    out->has_findings = json_is_integer(json_object_get(step, "findings")) &&
                        (size_t)ctl_number(step, "findings") == json_array_size(found);
    out->findings =
        arena_alloc_array(self->ctl->arena, json_array_size(found) + 1, sizeof *out->findings);
    json_array_foreach(found, i, finding)
    {
        if (!json_is_true(json_object_get(finding, "complete")))
            out->has_findings = false;
        out->findings[out->finding_count++] = str_c(ctl_text(finding, "finding"));
    }
}

static size_t take_records(struct shadowing *self, const char *type, const char *flow,
                           struct flow_recorded out[RECORDS_MAX])
{
    size_t count = 0;
    size_t i;
    json_t *step;
    json_array_foreach(self->steps, i, step)
    {
        if (strcmp(ctl_text(step, "type"), type) != 0 || count == RECORDS_MAX ||
            (flow[0] && strcmp(ctl_text(step, "flow"), flow) != 0))
            continue;
        out[count] = (struct flow_recorded){.step = str_c(ctl_text(step, "step")),
                                            .outcome = str_c(ctl_text(step, "outcome")),
                                            .detail = str_c(ctl_text(step, "detail")),
                                            .values = str_c(ctl_text(step, "values"))};
        take_findings(self, step, &out[count++]);
    }
    return count;
}

static const char *describe(struct shadowing *self, json_t *event, const struct shadow_case *one)
{
    const char *id = ctl_text(event, "ref");
    if (!id[0])
        id = ctl_text(event, "message");
    if (!id[0])
        id = ctl_text(event, "session");
    return arena_printf(self->ctl->arena, "%s  %s%s%s %s%.*s%s%.*s", id, ctl_text(event, "client"),
                        one->user.len ? " " : "", ctl_text(event, "user"),
                        one->kind == SHADOW_LOGIN ? "" : "<",
                        one->kind == SHADOW_LOGIN ? 0 : (int)one->sender.len, one->sender.ptr,
                        one->kind == SHADOW_LOGIN ? "" : "> ", STR_ARG(one->recipient))
        .ptr;
}

static void judge(struct shadowing *self, json_t *event, struct shadow_case *one, const char *kind,
                  const char *before)
{
    struct shadow_answer answer = {0};
    struct settings *former = find_former(self, ctl_text(event, "rev"));
    struct arena *arena = arena_new(0);
    self->decisions++;
    one->listener = str_c(ctl_text(event, "listener"));
    one->user = str_c(ctl_text(event, "user"));
    if (!net_ip_parse(str_c(ctl_text(event, "client")), &one->client) || !former)
        answer = (struct shadow_answer){
            .open = true,
            .where = former ? STR("the client is not known")
                            : STR("the revision of then is not kept, or cannot be read any more")};
    else
        shadow_run(self->candidate, former, one, arena, &answer);
    const char *where = arena_c(arena, answer.where);
    if (answer.open) {
        self->open++;
        count_in(self, true, kind, before, "", where,
                 answer.why.len ? arena_c(arena, answer.why) : "", describe(self, event, one));
    } else if (strcmp(answer.verdict, before) == 0) {
        self->same++;
    } else {
        self->changed++;
        count_in(self, false, kind, before, answer.verdict, where, "", describe(self, event, one));
    }
    arena_free(arena);
}

static void judge_login(struct shadowing *self, json_t *event)
{
    const char *name = ctl_text(event, "event");
    struct flow_recorded records[RECORDS_MAX];
    struct shadow_case one = {.kind = SHADOW_LOGIN, .tls = str_c(self->tls), .records = records};
    if (!ctl_text(event, "flow")[0])
        return; /* the exchange failed before any flow */
    one.record_count = take_records(self, "authentication", "", records);
    judge(self, event, &one, "login",
          strcmp(name, "auth.ok") == 0     ? "accept"
          : strcmp(name, "auth.fail") == 0 ? "reject"
                                           : "defer");
}

static void judge_recipient(struct shadowing *self, json_t *event)
{
    const char *name = ctl_text(event, "event");
    struct flow_recorded records[RECORDS_MAX];
    struct shadow_case one = {.kind = SHADOW_RECIPIENT,
                              .client_name = str_c(ctl_text(event, "client_name")),
                              .helo = str_c(ctl_text(event, "helo")),
                              .tls = str_c(ctl_text(event, "tls")),
                              .sender = str_c(ctl_text(event, "from")),
                              .recipient = str_c(ctl_text(event, "to")),
                              .domain = str_c(ctl_text(event, "domain")),
                              .records = records};
    one.record_count = take_records(self, "recipient", "", records);
    judge(self, event, &one, "recipient", name + strlen("recipient."));
}

/* What the content flow decided in the end; NULL: its trace has no end. */
static const char *content_verdict(struct shadowing *self, const char *flow)
{
    static const char *const words[] = {"reject", "defer",      "deliver",
                                        "hold",   "quarantine", "discard"};
    const char *verdict = NULL;
    size_t i;
    json_t *step;
    json_array_foreach(self->steps, i, step)
    {
        if (strcmp(ctl_text(step, "type"), "content") != 0 ||
            strcmp(ctl_text(step, "flow"), flow) != 0 ||
            json_is_true(json_object_get(step, "observed")))
            continue;
        for (size_t k = 0; k < sizeof words / sizeof *words; k++)
            if (strcmp(ctl_text(step, "action"), words[k]) == 0)
                verdict = words[k];
    }
    return verdict;
}

/* The fields that were told whole, as a header section, and their names. */
static void take_headers(struct shadowing *self, struct shadow_case *one)
{
    struct arena *arena = self->ctl->arena;
    struct str *fields =
        arena_alloc_array(arena, json_array_size(self->headers) + 1, sizeof *fields);
    size_t i;
    json_t *event;
    one->header = STR_EMPTY;
    json_array_foreach(self->headers, i, event)
    {
        struct str name = str_c(ctl_text(event, "field"));
        if (!json_is_true(json_object_get(event, "complete")))
            continue;
        fields[one->field_count++] = name;
        if (ctl_text(event, "value")[0])
            one->header = arena_printf(arena, "%.*s%.*s: %s\r\n", STR_ARG(one->header),
                                       STR_ARG(name), ctl_text(event, "value"));
    }
    one->header = arena_printf(arena, "%.*s\r\n", STR_ARG(one->header));
    one->fields = fields;
}

static void take_recipients(struct shadowing *self, json_t *recipients, struct shadow_case *one)
{
    struct str *list =
        arena_alloc_array(self->ctl->arena, json_array_size(recipients) + 1, sizeof *list);
    size_t i;
    json_t *to;
    json_array_foreach(recipients, i, to) list[one->recipient_count++] = str_c(ctl_text(to, "to"));
    one->recipients = list;
}

static bool judge_message_for(struct shadowing *self, json_t *event, json_t *recipients, json_t *to)
{
    struct flow_recorded records[RECORDS_MAX];
    struct settings *former = find_former(self, ctl_text(event, "rev"));
    struct str flow =
        former ? shadow_content_flow(former, str_c(ctl_text(to, "domain"))) : STR_EMPTY;
    const char *name = arena_c(self->ctl->arena, flow);
    const char *before = content_verdict(self, name);
    struct shadow_case one = {.kind = SHADOW_CONTENT,
                              .client_name = str_c(ctl_text(to, "client_name")),
                              .helo = str_c(ctl_text(to, "helo")),
                              .tls = str_c(ctl_text(to, "tls")),
                              .sender = str_c(ctl_text(to, "from")),
                              .recipient = str_c(ctl_text(to, "to")),
                              .domain = str_c(ctl_text(to, "domain")),
                              .size = (uint64_t)ctl_number(event, "size"),
                              .records = records};
    one.record_count = take_records(self, "content", name, records);
    take_headers(self, &one);
    take_recipients(self, recipients, &one);
    if (before)
        judge(self, event, &one, "message", before);
    return before != NULL;
}

/* Once for each recipient: each may have a flow of its own. False: its flow has not run yet. */
static bool judge_content(struct shadowing *self, json_t *event, json_t *recipients)
{
    bool any = false;
    size_t i;
    json_t *to;
    json_array_foreach(recipients, i, to) any |= judge_message_for(self, event, recipients, to);
    return any;
}

/* ---- stories ---- */

static bool is_new(struct shadowing *self, json_t *event)
{
    struct str key = arena_printf(self->ctl->arena, "%s %lld", ctl_text(event, "time"),
                                  ctl_number(event, "seq"));
    if (json_object_get(self->seen, key.ptr))
        return false;
    json_object_set_new(self->seen, key.ptr, json_true());
    return true;
}

static void read_decision(struct shadowing *self, json_t *event, json_t *recipients)
{
    const char *name = ctl_text(event, "event");
    bool fresh = is_new(self, event);
    if (fresh && str_starts(str_c(name), STR("auth.")))
        judge_login(self, event);
    if (fresh && str_starts(str_c(name), STR("recipient.")))
        judge_recipient(self, event);
    if (strcmp(name, "recipient.accept") == 0)
        json_array_append(recipients, event);
    if (fresh && str_starts(str_c(name), STR("message."))) {
        self->messages++;
        if (!judge_content(self, event, recipients) && strcmp(name, "message.accepted") == 0)
            self->waiting = event;
        json_array_clear(self->headers);
    }
    json_array_clear(self->steps);
}

static void read_story(struct shadowing *self, json_t *events)
{
    json_t *recipients = json_array();
    json_t *found = json_array();
    size_t i;
    json_t *event;
    self->steps = json_array();
    self->headers = json_array();
    self->waiting = NULL;
    self->tls = "";
    json_array_foreach(events, i, event)
    {
        if (strcmp(ctl_text(event, "event"), "flow.finding") == 0) {
            json_array_append(found, event);
        } else if (strcmp(ctl_text(event, "event"), "flow.step") == 0) {
            json_array_append(self->steps, event);
            json_object_set_new(event, "found", json_copy(found)); /* told before it */
            json_array_clear(found);
        } else if (strcmp(ctl_text(event, "event"), "message.header") == 0)
            json_array_append(self->headers, event);
        else if (strcmp(ctl_text(event, "event"), "session.tls") == 0)
            self->tls = ctl_text(event, "tls");
        else
            read_decision(self, event, recipients);
    }
    if (self->waiting) /* processing: queued; what the flow said came after the 250 */
        judge_content(self, self->waiting, recipients);
    json_decref(self->headers);
    json_decref(self->steps);
    json_decref(recipients);
    json_decref(found);
}

/* ---- the command ---- */

static int by_count(const void *a, const void *b)
{
    const struct group *one = a;
    const struct group *two = b;
    if (one->open != two->open)
        return one->open ? 1 : -1;
    return one->count > two->count ? -1 : one->count < two->count;
}

static void print_group(const struct group *group)
{
    if (group->open)
        printf("%6zu %s  undecided (it was %s) at ", group->count, group->kind, group->before);
    else
        printf("%6zu %s  %s -> %s  by ", group->count, group->kind, group->before, group->after);
    ctl_print_text(group->where);
    if (group->why[0]) {
        printf(": ");
        ctl_print_text(group->why);
    }
    printf("\n");
    for (size_t i = 0; i < EXAMPLES && i < group->count; i++) {
        printf("         ");
        ctl_print_text(group->examples[i]);
        printf("\n");
    }
}

struct cause { /* why decisions are undecided */
    const char *why;
    size_t count;
};

static int by_cause(const void *a, const void *b)
{
    size_t one = ((const struct cause *)a)->count;
    size_t two = ((const struct cause *)b)->count;
    return one > two ? -1 : one < two;
}

/* The causes of the undecided groups, most frequent first. */
static size_t count_causes(const struct shadowing *self, struct cause out[GROUPS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < self->group_count; i++) {
        const struct group *group = &self->groups[i];
        size_t k = 0;
        if (!group->open)
            continue;
        while (k < count && strcmp(out[k].why, group->why) != 0)
            k++;
        if (k == count)
            out[count++] = (struct cause){.why = group->why};
        out[k].count += group->count;
    }
    qsort(out, count, sizeof *out, by_cause);
    return count;
}

static void print_summary(const struct shadowing *self)
{
    struct cause causes[GROUPS_MAX];
    size_t count = count_causes(self, causes);
    printf("%zu decisions (%zu messages): %zu would change, %zu not, %zu are undecided%s\n",
           self->decisions, self->messages, self->changed, self->same, self->open,
           self->open ? ": the record does not say enough" : "");
    for (size_t i = 0; i < count && i < CAUSES_SHOWN; i++) {
        printf("%6zu ", causes[i].count);
        ctl_print_text(causes[i].why);
        printf("\n");
    }
    if (count > CAUSES_SHOWN)
        printf("       and %zu other reasons\n", count - CAUSES_SHOWN);
}

static json_t *causes_json(const struct shadowing *self)
{
    struct cause causes[GROUPS_MAX];
    size_t count = count_causes(self, causes);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:s, s:I}", "why", causes[i].why, "count",
                                              (json_int_t)causes[i].count));
    return list;
}

static json_t *group_json(const struct group *group)
{
    json_t *examples = json_array();
    for (size_t i = 0; i < EXAMPLES && i < group->count; i++)
        json_array_append_new(examples, json_string(group->examples[i]));
    return json_pack("{s:b, s:s, s:s, s:s, s:s, s:s, s:I, s:o}", "open", (int)group->open, "kind",
                     group->kind, "before", group->before, "after", group->after, "by",
                     group->where, "why", group->why, "count", (json_int_t)group->count, "examples",
                     examples);
}

static void print_result(struct shadowing *self)
{
    qsort(self->groups, self->group_count, sizeof *self->groups, by_count);
    json_t *list = json_array();
    for (size_t i = 0; i < self->group_count; i++) {
        if (self->ctl->json)
            json_array_append_new(list, group_json(&self->groups[i]));
        else
            print_group(&self->groups[i]);
    }
    if (!self->ctl->json) {
        print_summary(self);
        json_decref(list);
        return;
    }
    json_t *object =
        json_pack("{s:I, s:I, s:I, s:I, s:o, s:o}", "decisions", (json_int_t)self->decisions,
                  "changed", (json_int_t)self->changed, "same", (json_int_t)self->same, "open",
                  (json_int_t)self->open, "undecided", causes_json(self), "groups", list);
    ctl_print(self->ctl, object);
    json_decref(object);
}

/* "--last N" or "--since 1h" as the query, and how many stories at most. */
static const char *query_of(struct ctl *ctl, const char **out_limit)
{
    const char *last = ctl_option(ctl, "--last");
    const char *since = ctl_option(ctl, "--since");
    int64_t back_ns;
    uint64_t count;
    if ((last && !str_to_uint(str_c(last), 20000, &count)) ||
        (since && !option_parse_duration(str_c(since), &back_ns))) {
        fprintf(stderr, "postern: --last N (at most 20000) or --since 1h\n");
        exit(CTL_USAGE);
    }
    *out_limit = last ? last : since ? "20000" : "1000";
    if (!since)
        return "/api/v1/config/decisions";
    return arena_printf(ctl->arena, "/api/v1/config/decisions?since=%lld",
                        (long long)((clock_wall_ns() - back_ns) / NS_PER_MS))
        .ptr;
}

static void look_at_story(json_t *story, void *shadowing)
{
    read_story(shadowing, json_object_get(story, "events"));
}

int ctl_shadow(struct ctl *ctl)
{
    json_t *config;
    struct ctl_list decisions = {.look = look_at_story, .uncounted = true};
    struct ctl_listed listed;
    decisions.path = query_of(ctl, &decisions.limit);
    ctl_arguments(ctl, 0, 1);
    int code = ctl_config_get(ctl, "/api/v1/config", &config);
    if (code)
        return code;
    const char *file = arena_c(ctl->arena, str_c(ctl_text(config, "file")));
    json_decref(config);
    struct shadowing *self = arena_alloc(ctl->arena, sizeof *self);
    *self = (struct shadowing){.ctl = ctl};
    self->candidate = load_candidate(ctl, ctl->argc ? ctl->argv[0] : file, file);
    if (!self->candidate)
        return CTL_NO;
    decisions.context = self;
    self->seen = json_object();
    code = ctl_list(ctl, &decisions, &listed);
    if (code == CTL_YES) {
        print_result(self);
        ctl_listed_free(&listed);
        code = self->changed ? CTL_NO : CTL_YES;
    }
    json_decref(self->seen);
    for (size_t i = 0; i < self->former_count; i++)
        settings_unref(self->formers[i].settings);
    settings_unref(self->candidate);
    return code;
}
