/* SPDX-License-Identifier: Apache-2.0 */
/* DMARC: records, the tree walk, alignment, policies. */
#include "content/dmarc.h"

#include "base/test.h"
#include "content/suite_zone_test.h"

#include <stdio.h>
#include <string.h>

/* ---- records ---- */

struct record_case {
    const char *text;
    const char *expected; /* "p sp np psd adkim aspf t", "-" for none, "no" for unusable, "other" */
};

static const struct record_case record_cases[] = {
    {"v=DMARC1; p=none", "none - - u r r n"},
    {"v=DMARC1;p=reject", "reject - - u r r n"},
    {" v = DMARC1 ; p = Reject ; sp=NONE;", "reject none - u r r n"},
    {"v=DMARC1; p=quarantine; sp=none; np=reject; psd=n; adkim=s; aspf=S; t=y",
     "quarantine none reject n s s y"},
    {"v=DMARC1; p=reject; psd=y; pct=5; ri=1; rf=x; unknown=1", "reject - - y r r n"},
    {"v=DMARC1; adkim=x; aspf=; t=maybe; psd=q; p=reject", "reject - - u r r n"},
    {"v=DMARC1; p=reject; p=none", "reject - - u r r n"},
    {"v=DMARC1; nonsense; =x; ;; p=reject", "reject - - u r r n"},
    {"v=DMARC1", "no"},
    {"v=DMARC1; p=", "no"},
    {"v=DMARC1; p=rejected", "no"},
    {"v=DMARC1; p=reject; sp=x", "no"},
    {"v=DMARC1; p=reject; np=x; rua=nothing", "no"},
    {"v=DMARC1; rua=mailto:r@example.net", "none - - u r r n"},
    {"v=DMARC1; p=x; sp=reject; rua=, mailto:r@example.net", "none - - u r r n"},
    {"v=DMARC1;p=none;", "none - - u r r n"},
    {"v=DMARC1;;;p=none", "none - - u r r n"},
    {"V=DMARC1; P=REJECT; SP=Quarantine; NP=None", "reject quarantine none u r r n"},
    {"v\t=\tDMARC1\t;\tp\t=\tnone\t", "none - - u r r n"},
    {"v=DMARC1; p=none; t=Y", "none - - u r r y"},
    {"v=DMARC1; p=none; t=n", "none - - u r r n"},
    {"v=DMARC1; p=none; psd=Y", "none - - y r r n"},
    {"v=DMARC1; p=none; psd=u", "none - - u r r n"},
    {"v=DMARC1; p=none; adkim=strict", "none - - u r r n"},
    {"v=DMARC1; p=none; adkim=r; aspf=r", "none - - u r r n"},
    {"v=DMARC1; p=none; sp", "none - - u r r n"},
    {"v=DMARC1; p =none=none", "no"},
    {"v=DMARC1; p=none none", "no"},
    {"v=DMARC1; sp=reject", "no"},
    {"v=DMARC1; p=none; np=", "no"},
    {"v=DMARC1; rua=mailto:", "no"},
    {"v=DMARC1; rua=https://r.example.net/x", "none - - u r r n"},
    {"v=DMARC1; p=x; rua=5:x", "no"},
    {"v=DMARC1; p=none; rua=mailto:a@example.net; rua=x", "none - - u r r n"},
    {"v = DMARC1", "no"},
    {"v=DMARC1x; p=none", "other"},
    {"v=DMARC1 ; p=none", "none - - u r r n"},
    {";v=DMARC1; p=none", "other"},
    {"v", "other"},
    {"=DMARC1", "other"},
    {"v=dmarc1; p=none", "other"},
    {"v=DMARC2; p=none", "other"},
    {"p=none; v=DMARC1", "other"},
    {"v=DMARC1 p=none", "other"},
    {"", "other"},
    {"v=spf1 -all", "other"},
};

static const char *word(enum dmarc_policy policy)
{
    return policy ? dmarc_policy_name(policy) : "-";
}

static void test_records(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof record_cases / sizeof *record_cases; i++) {
        struct dmarc_record r;
        struct str text = str_c(record_cases[i].text);
        char got[128] = "other";
        if (dmarc_record_is_dmarc(text)) {
            bool good = dmarc_record_parse(text, &r);
            snprintf(got, sizeof got, good ? "%s %s %s %c %c %c %c" : "no", word(r.p), word(r.sp),
                     word(r.np), "uyn"[r.psd], r.strict_dkim ? 's' : 'r', r.strict_spf ? 's' : 'r',
                     r.testing ? 'y' : 'n');
        }
        if (strcmp(got, record_cases[i].expected) != 0)
            fail_msg("\"%s\": %s, not %s", record_cases[i].text, got, record_cases[i].expected);
    }
}

/* ---- evaluation ---- */

#define TXT(name, text)                                                                            \
    {                                                                                              \
        {"_dmarc." name, sizeof("_dmarc." name) - 1}, {"TXT", 3},                                  \
        {                                                                                          \
            text, sizeof(text) - 1                                                                 \
        }                                                                                          \
    }
#define HOST(name)                                                                                 \
    {                                                                                              \
        {name, sizeof(name) - 1}, {"A", 1},                                                        \
        {                                                                                          \
            "192.0.2.1", 9                                                                         \
        }                                                                                          \
    }

static struct zone_record records[] = {
    TXT("none.example", "v=DMARC1; p=none"),
    TXT("quarantine.example", "v=DMARC1; p=quarantine"),
    TXT("reject.example", "v=DMARC1; p=reject"),
    TXT("strict.example", "v=DMARC1; p=reject; adkim=s; aspf=s"),
    TXT("testing.example", "v=DMARC1; p=reject; t=y"),
    TXT("testingq.example", "v=DMARC1; p=quarantine; t=y"),
    TXT("sub.example", "v=DMARC1; p=reject; sp=none"),
    TXT("own.sub.example", "v=DMARC1; p=quarantine; sp=reject"),
    TXT("np.example", "v=DMARC1; p=none; sp=quarantine; np=reject"),
    HOST("there.np.example"),
    TXT("twice.example", "v=DMARC1; p=reject"),
    TXT("twice.example", "v=DMARC1; p=none"),
    TXT("mixed.example", "v=spf1 -all"),
    TXT("mixed.example", "v=DMARC1; p=reject"),
    TXT("broken.example", "v=DMARC1; p=wrong"),
    TXT("psd.example", "v=DMARC1; p=reject; psd=y"),
    TXT("has.psd.example", "v=DMARC1; p=none"),
    TXT("split.example", "v=DMARC1; p=reject"),
    TXT("unit.split.example", "v=DMARC1; p=quarantine; psd=n"),
    TXT("a.b.c.d.e.f.g.h.deep.example", "v=DMARC1; p=reject"),
    TXT("e.f.g.h.deep2.example", "v=DMARC1; p=reject"),
    TXT("d.e.f.g.h.deep3.example", "v=DMARC1; p=reject"),
    {{"_dmarc.slow.example", 19}, {"TIMEOUT", 7}, {"", 0}},
};

struct dmarc_case {
    const char *name;
    const char *from;     /* addresses of From */
    const char *spf;      /* domain that passed, or ""; with ?: that could not be checked */
    const char *dkim;     /* domains that passed, with commas; likewise */
    const char *expected; /* "result disposition policy-domain" */
};

static const struct dmarc_case dmarc_cases[] = {
    {"no record", "a@nothing.example", "nothing.example", "", "none - -"},
    {"spf, the same", "a@reject.example", "reject.example", "", "pass - reject.example"},
    {"dkim, the same", "a@reject.example", "", "reject.example", "pass - reject.example"},
    {"neither", "a@reject.example", "", "", "fail reject reject.example"},
    {"foreign", "a@reject.example", "evil.example", "evil.example", "fail reject reject.example"},
    {"one of several", "a@reject.example", "evil.example", "x.example,reject.example",
     "pass - reject.example"},
    {"relaxed spf, below", "a@reject.example", "bounce.reject.example", "",
     "pass - reject.example"},
    {"relaxed dkim, above", "a@news.reject.example", "", "reject.example", "pass - reject.example"},
    {"relaxed, beside", "a@news.reject.example", "bounce.reject.example", "",
     "pass - reject.example"},
    {"no suffix of letters", "a@reject.example", "notreject.example", "",
     "fail reject reject.example"},
    {"a common suffix alone", "a@reject.example", "example", "", "fail reject reject.example"},
    {"strict, the same", "a@strict.example", "strict.example", "", "pass - strict.example"},
    {"strict spf, below", "a@strict.example", "x.strict.example", "", "fail reject strict.example"},
    {"strict dkim, below", "a@strict.example", "", "x.strict.example",
     "fail reject strict.example"},
    {"none", "a@none.example", "", "", "fail none none.example"},
    {"quarantine", "a@quarantine.example", "", "", "fail quarantine quarantine.example"},
    {"t=y", "a@testing.example", "", "", "fail quarantine testing.example"},
    {"t=y, quarantine", "a@testingq.example", "", "", "fail none testingq.example"},
    {"inherited", "a@x.y.reject.example", "", "", "fail reject reject.example"},
    {"sp", "a@x.sub.example", "", "", "fail none sub.example"},
    {"sp is not for the domain", "a@sub.example", "", "", "fail reject sub.example"},
    {"own record", "a@own.sub.example", "", "", "fail quarantine own.sub.example"},
    {"the organization counts, not what is between", "a@x.own.sub.example", "", "",
     "fail none sub.example"},
    {"own record, organization above", "a@own.sub.example", "sub.example", "",
     "pass - own.sub.example"},
    {"np", "a@gone.np.example", "", "", "fail reject np.example"},
    {"np, but it exists", "a@there.np.example", "", "", "fail quarantine np.example"},
    {"np is not for the domain", "a@np.example", "", "", "fail none np.example"},
    {"two records", "a@twice.example", "", "", "none - -"},
    {"another record beside", "a@mixed.example", "", "", "fail reject mixed.example"},
    {"no policy in it", "a@broken.example", "", "", "none - -"},
    {"public suffix's policy", "a@x.psd.example", "", "", "fail reject psd.example"},
    {"below a public suffix", "a@x.psd.example", "", "y.psd.example", "fail reject psd.example"},
    {"the same below it", "a@n.x.psd.example", "", "m.x.psd.example", "pass - psd.example"},
    {"own record below it", "a@has.psd.example", "", "", "fail none has.psd.example"},
    {"organization's record below it", "a@x.has.psd.example", "", "", "fail none has.psd.example"},
    {"psd=n", "a@x.unit.split.example", "", "", "fail quarantine unit.split.example"},
    {"psd=n parts", "a@x.unit.split.example", "", "split.example",
     "fail quarantine unit.split.example"},
    {"psd=n parts from above", "a@split.example", "", "unit.split.example",
     "fail reject split.example"},
    {"psd=n joins", "a@x.unit.split.example", "", "unit.split.example",
     "pass - unit.split.example"},
    {"long, own record", "a@a.b.c.d.e.f.g.h.deep.example", "", "",
     "fail reject a.b.c.d.e.f.g.h.deep.example"},
    {"long, in the seven", "a@a.b.c.d.e.f.g.h.deep2.example", "", "",
     "fail reject e.f.g.h.deep2.example"},
    {"long, in the seven at once", "a@a.b.c.d.e.f.g.h.deep3.example", "", "",
     "fail reject d.e.f.g.h.deep3.example"},
    {"no answer", "a@slow.example", "", "", "temperror - -"},
    {"no answer above", "a@x.slow.example", "x.slow.example", "", "temperror - -"},
    {"the author's domain is below the signer's", "a@a.b.c.reject.example", "", "reject.example",
     "pass - reject.example"},
    {"the signer's is below the author's", "a@reject.example", "", "a.b.c.reject.example",
     "pass - reject.example"},
    {"both are below", "a@x.y.reject.example", "z.reject.example", "", "pass - reject.example"},
    {"spf fails, dkim passes", "a@quarantine.example", "evil.example", "quarantine.example",
     "pass - quarantine.example"},
    {"dkim foreign, spf passes", "a@quarantine.example", "quarantine.example", "evil.example",
     "pass - quarantine.example"},
    {"organization without a record of its own", "a@a.nothing.example", "nothing.example", "",
     "none - -"},
    {"strict, the author below", "a@x.strict.example", "strict.example", "",
     "fail reject strict.example"},
    {"strict, both below, the same", "a@x.strict.example", "x.strict.example", "",
     "pass - strict.example"},
    {"sp, aligned", "a@x.sub.example", "sub.example", "", "pass - sub.example"},
    {"np, aligned", "a@gone.np.example", "np.example", "", "pass - np.example"},
    {"t=y, below", "a@x.testing.example", "", "", "fail quarantine testing.example"},
    {"p=none, aligned", "a@none.example", "", "none.example", "pass - none.example"},
    {"the public suffix itself", "a@psd.example", "", "", "fail reject psd.example"},
    {"the public suffix itself, aligned", "a@psd.example", "psd.example", "", "pass - psd.example"},
    {"the public suffix signs for one below", "a@x.psd.example", "", "psd.example",
     "fail reject psd.example"},
    {"one below does not sign for the suffix", "a@psd.example", "", "x.psd.example",
     "fail reject psd.example"},
    {"two records, then the organization's", "a@twice.example", "twice.example", "", "none - -"},
    {"broken record, aligned", "a@broken.example", "broken.example", "", "none - -"},
    {"a name of one label", "a@example", "", "", "none - -"},
    {"two addresses of one domain", "a@reject.example, B <b@reject.example>", "reject.example", "",
     "pass - reject.example"},
    {"spf unsure", "a@reject.example", "?reject.example", "", "temperror - reject.example"},
    {"spf unsure, relaxed", "a@reject.example", "?x.reject.example", "",
     "temperror - reject.example"},
    {"spf unsure, strict", "a@strict.example", "?x.strict.example", "",
     "fail reject strict.example"},
    {"spf unsure, foreign", "a@reject.example", "?evil.example", "", "fail reject reject.example"},
    {"spf unsure, dkim passes", "a@reject.example", "?reject.example", "reject.example",
     "pass - reject.example"},
    {"dkim unsure", "a@reject.example", "", "evil.example,?reject.example",
     "temperror - reject.example"},
    {"dkim unsure, strict", "a@strict.example", "", "?x.strict.example",
     "fail reject strict.example"},
    {"dkim unsure, foreign", "a@reject.example", "", "?evil.example", "fail reject reject.example"},
    {"dkim unsure, spf passes", "a@reject.example", "reject.example", "?reject.example",
     "pass - reject.example"},
    {"unsure, ambiguous", "a@reject.example, b@x.example", "?reject.example", "?reject.example",
     "fail reject reject.example"},
    {"unsure, no record", "a@nothing.example", "?nothing.example", "", "none - -"},
    {"two domains", "a@none.example, b@reject.example", "none.example", "reject.example",
     "fail reject reject.example"},
    {"two domains, one without a record", "a@nothing.example, b@quarantine.example",
     "nothing.example", "", "fail quarantine quarantine.example"},
    {"ambiguous, no record", "a@nothing.example, b@nothing2.example", "nothing.example", "",
     "permerror - -"},
    {"none at all", "us:;", "reject.example", "reject.example", "permerror - -"},
    {"IDN and case", "a@REJECT.example", "reject.example", "", "pass - reject.example"},
};

static size_t split_domains(const char *text, struct str out[4])
{
    size_t count = 0;
    struct str rest = str_c(text), one;
    while (str_split(&rest, ',', &one))
        if (one.len && count < 4)
            out[count++] = one;
    return count;
}

NO_YIELD_CHECK static void run(const struct dmarc_case *c)
{
    struct arena *arena = arena_new(0);
    struct author author = {.address = STR_EMPTY};
    struct zone zone = {records, sizeof records / sizeof *records, 0};
    struct resolver resolver = zone_resolver(&zone);
    struct str all[4], domains[4], unsure[4],
        header = arena_printf(arena, "From: %s\r\n\r\n", c->from);
    struct str spf = str_c(c->spf);
    struct dmarc_outcome outcome;
    char got[256];
    author_read(header, arena, &author);
    struct dmarc_request request = {.author = &author,
                                    .spf = spf.len ? SPF_PASS : SPF_FAIL,
                                    .dkim_domains = domains,
                                    .unsure_domains = unsure};
    if (str_starts(spf, STR("?"))) {
        request.spf = SPF_TEMPERROR;
        spf = str_from(spf, 1);
    }
    request.spf_domain = spf;
    size_t count = split_domains(c->dkim, all);
    for (size_t i = 0; i < count; i++) {
        if (str_starts(all[i], STR("?")))
            unsure[request.unsure_domain_count++] = str_from(all[i], 1);
        else
            domains[request.dkim_domain_count++] = all[i];
    }
    resolver.budget = DMARC_BUDGET;
    dmarc_check(&resolver, &request, arena, &outcome);
    snprintf(got, sizeof got, "%s %s %.*s", dmarc_result_name(outcome.result),
             word(outcome.disposition),
             STR_ARG(outcome.policy_domain.len ? outcome.policy_domain : STR("-")));
    if (strcmp(got, c->expected) != 0)
        fail_msg("%s: %s, not %s (%.*s)", c->name, got, c->expected, STR_ARG(outcome.problem));
    assert_true(zone.asked <= DMARC_BUDGET);
    arena_free(arena);
}

static void test_evaluation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof dmarc_cases / sizeof *dmarc_cases; i++)
        run(&dmarc_cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_records),
                                       cmocka_unit_test(test_evaluation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
