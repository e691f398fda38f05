/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/domain.c - `postern domain …`: would the world believe mail of your domains? */
#include "ctl/dkim.h"
#include "ctl/list.h"
#include "gateway/domain_check.h"

#include <stdio.h>

struct errand {
    struct ctl *ctl;
    const struct settings *settings;
    const char *domain;
    struct str addresses;
    enum finding_state worst;
    struct error err;
    bool failed;
    size_t checked;
};

static void print(struct errand *errand, const struct domain_check *check)
{
    static const char *const words[] = {[FINDING_OK] = "ok",
                                        [FINDING_WARN] = "warn",
                                        [FINDING_FAIL] = "FAIL",
                                        [FINDING_NO_ANSWER] = "?"};
    static const char *const names[] = {[FINDING_OK] = "ok",
                                        [FINDING_WARN] = "warn",
                                        [FINDING_FAIL] = "fail",
                                        [FINDING_NO_ANSWER] = "no-answer"};
    if (!errand->ctl->json)
        printf("%s%.*s\n", errand->checked ? "\n" : "", STR_ARG(check->domain));
    for (size_t i = 0; i < check->count; i++) {
        const struct finding *finding = &check->findings[i];
        if (finding->state > errand->worst)
            errand->worst = finding->state;
        if (!errand->ctl->json) {
            printf("  %-4s %-6s ", words[finding->state], domain_part_names[finding->part]);
            ctl_print_text(arena_c(check->arena, finding->text));
            printf("\n");
            if (finding->record.len) {
                printf("       publish: ");
                ctl_print_text(arena_c(check->arena, finding->record));
                printf("\n");
            }
            continue;
        }
        json_t *item =
            json_pack("{s:s%, s:s, s:s, s:s%}", "domain", check->domain.ptr, check->domain.len,
                      "check", domain_part_names[finding->part], "state", names[finding->state],
                      "text", finding->text.ptr, finding->text.len);
        if (item && finding->record.len)
            json_object_set_new(item, "record",
                                json_stringn(finding->record.ptr, finding->record.len));
        ctl_print_item(errand->ctl, item, NULL);
        json_decref(item);
    }
}

static MAY_YIELD void check_domain(struct errand *errand, struct dns *dns, struct str domain)
{
    struct domain_check *check = ARENA_NEW(errand->ctl->arena, struct domain_check);
    check->arena = errand->ctl->arena;
    check->settings = errand->settings;
    check->dns = dns;
    check->domain = domain;
    domain_check_addresses(check, errand->addresses);
    domain_check_run(check, ~0u);
    print(errand, check);
    errand->checked++;
}

static MAY_YIELD void run(struct loop *loop, void *arg)
{
    struct errand *errand = arg;
    const struct settings *settings = errand->settings;
    struct dns *dns;
    if (dns_new(loop, &settings->dns, &dns, &errand->err) != OK) {
        errand->failed = true;
        return;
    }
    for (size_t i = 0; i < settings->domain_count; i++) {
        const struct settings_domain *domain = &settings->domains[i];
        if (!domain->is_any &&
            (!errand->domain || str_equal_nocase(domain->name, str_c(errand->domain))))
            check_domain(errand, dns, domain->name);
    }
    dns_free(dns);
}

int ctl_domain_check(struct ctl *ctl)
{
    static const int codes[] = {[FINDING_OK] = CTL_YES,
                                [FINDING_WARN] = CTL_YES,
                                [FINDING_FAIL] = CTL_NO,
                                [FINDING_NO_ANSWER] = CTL_TRY_AGAIN};
    const char *addresses = ctl_option(ctl, "--ip");
    struct errand errand = {
        .ctl = ctl, .domain = ctl_option(ctl, "--domain"), .addresses = str_c(addresses)};
    ctl_arguments(ctl, 0, 1);
    struct settings *settings = ctl_dkim_settings(ctl, NULL);
    if (!settings)
        return CTL_NO;
    errand.settings = settings;
    int code = CTL_NO;
    if (ctl_on_loop(run, &errand, &errand.err) != OK || errand.failed)
        fprintf(stderr, "postern: %s\n", errand.err.text);
    else if (!errand.checked)
        fprintf(stderr, "postern: there is no such domain under domains\n");
    else
        code = codes[errand.worst];
    settings_unref(settings);
    return code;
}

/* ---- what the daemon saw ---- */

static void print_watched(json_t *domain)
{
    static const char *const parts[] = {"mx", "spf", "dkim", "dmarc"};
    size_t i;
    json_t *problem;
    printf("%-32s", ctl_text(domain, "domain"));
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        const char *health = ctl_text(domain, parts[k]);
        printf(" %s %-4s", parts[k],
               health[0] == 'h'                       ? "ok"
               : health[1] == 'n' && health[2] == 'h' ? "FAIL"
                                                      : "?");
    }
    printf("  looked ");
    if (ctl_text(domain, "looked")[0])
        ctl_print_time(ctl_text(domain, "looked"), true);
    else
        printf("never yet");
    printf("\n");
    json_array_foreach(json_object_get(domain, "problems"), i, problem)
    {
        printf("  %-6s", ctl_text(problem, "check"));
        ctl_print_text(ctl_text(problem, "text"));
        if (ctl_text(problem, "record")[0]) {
            printf("\n        publish: ");
            ctl_print_text(ctl_text(problem, "record"));
        }
        printf("\n");
    }
}

static void note_problems(json_t *domain, void *any)
{
    *(bool *)any |= json_array_size(json_object_get(domain, "problems")) > 0;
}

int ctl_domain_list(struct ctl *ctl)
{
    struct ctl_listed listed;
    bool any = false;
    const struct ctl_list list = {"/api/v1/domains", "Domain", .print = print_watched,
                                  .look = note_problems, .context = &any};
    ctl_arguments(ctl, 0, 0);
    int code = ctl_list(ctl, &list, &listed);
    if (code)
        return code;
    if (!ctl->json && ctl_number(listed.first, "every_seconds") == 0)
        printf("nobody looks at them now and then (domain_checks: { every: 0s }); at once: postern "
               "domain check\n");
    ctl_listed_free(&listed);
    return any ? CTL_NO : CTL_YES;
}
