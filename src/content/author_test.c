/* SPDX-License-Identifier: Apache-2.0 */
/* From fields, plain ones and those of attackers. */
#include "content/author.h"

#include "base/test.h"

#include <stdio.h>
#include <string.h>

struct from_case {
    const char *name;
    const char *header;
    enum author_kind kind;
    const char *domains;
    const char *address;
};

static const struct from_case cases[] = {
    {"plain", "From: a@example.net\r\n", AUTHOR_CLEAR, "example.net", "a@example.net"},
    {"angle", "From: Ann <a@example.net>\r\n", AUTHOR_CLEAR, "example.net", "a@example.net"},
    {"case", "FROM: <A@Example.NET>\r\n", AUTHOR_CLEAR, "example.net", "A@example.net"},
    {"blank before the colon", "From : a@example.net\r\n", AUTHOR_CLEAR, "example.net",
     "a@example.net"},
    {"folded", "From:\r\n Ann\r\n\t<a@example.net>\r\n", AUTHOR_CLEAR, "example.net",
     "a@example.net"},
    {"quoted name", "From: \"x <b@evil.example>, \\\" y\" <a@example.net>\r\n", AUTHOR_CLEAR,
     "example.net", "a@example.net"},
    {"address as a name", "From: b@evil.example <a@example.net>\r\n", AUTHOR_CLEAR, "example.net",
     "a@example.net"},
    {"comments", "From: a(x)@(y (nested @z.example))example.net (Ann)\r\n", AUTHOR_CLEAR,
     "example.net", "a@example.net"},
    {"blanks around dots", "From: a . b @ example . net\r\n", AUTHOR_CLEAR, "example.net",
     "a.b@example.net"},
    {"quoted local part", "From: <\"a b\"@example.net>\r\n", AUTHOR_CLEAR, "example.net",
     "\"a b\"@example.net"},
    {"quoted @", "From: <\"a@evil.example\"@example.net>\r\n", AUTHOR_AMBIGUOUS,
     "evil.example,example.net", "\"a@evil.example\"@example.net"},
    {"IDN",
     "From: a@b\xc3\xbc"
     "cher.example\r\n",
     AUTHOR_CLEAR, "xn--bcher-kva.example", "a@xn--bcher-kva.example"},
    {"two of one domain", "From: a@example.net, B <b@EXAMPLE.net>\r\n", AUTHOR_CLEAR, "example.net",
     "a@example.net"},
    {"group", "From: us: a@example.net, <b@example.net>;\r\n", AUTHOR_CLEAR, "example.net",
     "a@example.net"},
    {"empty group", "From: undisclosed:;\r\n", AUTHOR_NONE, "", ""},
    {"none", "To: a@example.net\r\n", AUTHOR_NONE, "", ""},
    {"empty", "From: \r\n", AUTHOR_NONE, "", ""},
    {"two fields", "From: a@example.net\r\nFrom: b@example.org\r\n", AUTHOR_AMBIGUOUS,
     "example.net,example.org", "a@example.net"},
    {"the same twice", "From: a@example.net\r\nX: y\r\nfrom: a@example.net\r\n", AUTHOR_AMBIGUOUS,
     "example.net", "a@example.net"},
    {"name on a line of its own", "From\r\n : a@example.net\r\n", AUTHOR_AMBIGUOUS, "example.net",
     "a@example.net"},
    {"a blank in front", " From: a@example.net\r\nFrom: b@example.org\r\n", AUTHOR_AMBIGUOUS,
     "example.net,example.org", "a@example.net"},
    {"a control character in front",
     "\x01"
     "From: a@example.net\r\n",
     AUTHOR_AMBIGUOUS, "example.net", "a@example.net"},
    {"another name", "X-From: a@example.net\r\nFromm: a@example.net\r\n", AUTHOR_NONE, "", ""},
    {"two domains", "From: a@example.net, b@example.org\r\n", AUTHOR_AMBIGUOUS,
     "example.net,example.org", "a@example.net"},
    {"two angles", "From: <a@example.net><b@example.org>\r\n", AUTHOR_AMBIGUOUS,
     "example.net,example.org", "a@example.net"},
    {"angle, then text", "From: <a@example.net> b@example.org\r\n", AUTHOR_AMBIGUOUS,
     "example.net,example.org", "a@example.net"},
    {"two @", "From: a@example.net@example.org\r\n", AUTHOR_AMBIGUOUS, "example.net,example.org",
     ""},
    {"route", "From: <@example.net,@x.example:a@example.org>\r\n", AUTHOR_AMBIGUOUS,
     "example.net,x.example,example.org", ""},
    {"encoded word", "From: =?utf-8?q?a@example.net?=\r\n", AUTHOR_AMBIGUOUS, "example.net", ""},
    {"encoded word in base64", "From: =?utf-8?B?YUBleGFtcGxlLm5ldA==?=\r\n", AUTHOR_AMBIGUOUS,
     "example.net", ""},
    {"encoded word in <>", "From: <=?utf-8?Q?a=40example=2Enet?=>\r\n", AUTHOR_AMBIGUOUS,
     "example.net", ""},
    {"encoded word as a name", "From: =?utf-8?Q?a=40example=2Enet?= <b@example.org>\r\n",
     AUTHOR_CLEAR, "example.org", "b@example.org"},
    {"no domain", "From: a\r\n", AUTHOR_AMBIGUOUS, "", ""},
    {"no local part", "From: @example.net\r\n", AUTHOR_AMBIGUOUS, "example.net", ""},
    {"literal", "From: a@[192.0.2.1]\r\n", AUTHOR_AMBIGUOUS, "", ""},
    {"no end of <", "From: Ann <a@example.net\r\n", AUTHOR_AMBIGUOUS, "example.net",
     "a@example.net"},
    {"no end of a quote", "From: \"Ann <a@example.net>\r\n", AUTHOR_AMBIGUOUS, "example.net", ""},
    {"no end of a comment", "From: (Ann <a@example.net>\r\n", AUTHOR_AMBIGUOUS, "example.net", ""},
    {"words", "From: Ann a@example.net\r\n", AUTHOR_AMBIGUOUS, "example.net", "Anna@example.net"},
    {"> alone", "From: a@example.net>\r\n", AUTHOR_AMBIGUOUS, "", ""},
    /* tricks against readers that disagree */
    {"quoted comma outside quotes", "From: <a@example.net>\\,<b@example.org>\r\n", AUTHOR_AMBIGUOUS,
     "example.net,example.org", "a@example.net"},
    {"bare, then angle", "From: a@example.net,<b@example.org>\r\n", AUTHOR_AMBIGUOUS,
     "example.net,example.org", "a@example.net"},
    {"encoded address beside one", "From: =?utf-8?B?YUBleGFtcGxlLm5ldA==?=, <b@example.org>\r\n",
     AUTHOR_AMBIGUOUS, "example.net,example.org", "b@example.org"},
    {"comment between", "From: <a@example.net(>, <b@example.org)>\r\n", AUTHOR_AMBIGUOUS,
     "example.net,example.org", "a@example.net"},
    {"quote inside <>", "From: <\"a@example.net,\"b@example.org>\r\n", AUTHOR_AMBIGUOUS,
     "example.net,example.org", "\"a@example.net,\"b@example.org"},
    {"empty <> in front", "From: <> <b@example.org>\r\n", AUTHOR_AMBIGUOUS, "example.org",
     "b@example.org"},
    {"group in a group", "From: x: y: a@example.net;, b@example.net;\r\n", AUTHOR_CLEAR,
     "example.net", "a@example.net"},
    {"a group's name with an address", "From: a@example.net: <b@example.org>;\r\n",
     AUTHOR_AMBIGUOUS, "example.net,example.org", "b@example.org"},
    {"trailing dot", "From: a@example.net.\r\n", AUTHOR_AMBIGUOUS, "example.net", ""},
    {"OpenDMARC's", "From: a@example.net(.example.com\r\n", AUTHOR_AMBIGUOUS, "example.net",
     "a@example.net"},
};

static void run(const struct from_case *c)
{
    struct author author;
    struct arena *arena = arena_new(0);
    char domains[512] = "";
    author_read(str_c(c->header), arena, &author);
    for (size_t i = 0; i < author.domain_count; i++) {
        size_t len = strlen(domains);
        snprintf(domains + len, sizeof domains - len, "%s%.*s", i ? "," : "",
                 STR_ARG(author.domains[i]));
    }
    bool good = author.kind == c->kind && strcmp(domains, c->domains) == 0 &&
                str_equal(author.address, str_c(c->address)) &&
                (author.problem != NULL) == (c->kind == AUTHOR_AMBIGUOUS);
    if (!good)
        fail_msg("%s: kind %d, \"%s\", <%.*s>, %s", c->name, author.kind, domains,
                 STR_ARG(author.address), author.problem ? author.problem : "clear");
    arena_free(arena);
}

static void test_from(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        run(&cases[i]);
}

/* Longer than what is kept of an address. */
static void test_long(void **state)
{
    static const char *const forms[] = {"<", ""};
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct author author;
        struct arena *arena = arena_new(0);
        char text[2000], local[1500];
        memset(local, 'a', sizeof local);
        local[sizeof local - 1] = '\0';
        snprintf(text, sizeof text, "From: %s%s@example.net%s\r\n", forms[i], local,
                 forms[i][0] ? ">" : "");
        author_read(str_c(text), arena, &author);
        assert_int_equal(author.kind, AUTHOR_AMBIGUOUS);
        assert_int_equal(author.domain_count, 1);
        assert_str(author.domains[0], "example.net");
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_from), cmocka_unit_test(test_long)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
