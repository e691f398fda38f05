/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/arena.h"
#include "mail/header.h"
#include "mail/seven_bit.h"

static const struct {
    const char *name, *in, *out; /* out NULL: refused */
} cases[] = {
    {"7-bit stays", "Subject: a\r\n\r\nplain =\r\n", "Subject: a\r\n\r\nplain =\r\n"},
    {"declared 8bit without need", "Content-Transfer-Encoding: 8bit\r\n\r\nplain\r\n",
     "Content-Transfer-Encoding: 7bit\r\n\r\nplain\r\n"},
    {"text without MIME", "Subject: a\r\n\r\nJ\xc3\xb6rg = \r\n",
     "Subject: a\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
     "Content-Transfer-Encoding: quoted-printable\r\n\r\nJ=C3=B6rg =3D=20\r\n"},
    {"text",
     "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
     "Content-Transfer-Encoding: 8bit\r\n\r\n\xc3\xa4\r\n",
     "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
     "Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A4\r\n"},
    {"multipart",
     "MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"b b\"\r\n"
     "Content-Transfer-Encoding: 8bit\r\n\r\npre \xff\r\n--b b\r\n\r\nplain\r\n--b b\r\n"
     "Content-Type: application/x\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xff\xfe\r\n"
     "--b b--\r\nepilogue\r\n",
     "MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"b b\"\r\n"
     "Content-Transfer-Encoding: 7bit\r\n\r\npre ?\r\n--b b\r\n\r\nplain\r\n--b b\r\n"
     "Content-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\n//4=\r\n"
     "--b b--\r\nepilogue\r\n"},
    {"message in a part",
     "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n"
     "Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\n\xe4\r\n--x--\r\n",
     "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n"
     "Content-Type: message/rfc822\r\n\r\nSubject: in\r\nMIME-Version: 1.0\r\n"
     "Content-Type: text/plain; charset=unknown-8bit\r\n"
     "Content-Transfer-Encoding: quoted-printable\r\n\r\n=E4\r\n--x--\r\n"},
    {"a signed part",
     "Content-Type: multipart/signed; "
     "boundary=x\r\n\r\n--x\r\n\r\n\xe4\r\n--x\r\n\r\nkey\r\n--x--\r\n",
     NULL},
    {"a signed part in a part",
     "Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n"
     "Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n"
     "Content-Type: multipart/mixed; "
     "boundary=z\r\n\r\n--z\r\n\r\n\xe4\r\n--z--\r\n--x--\r\n--y--\r\n",
     NULL},
    {"beside a signed part, which stays",
     "Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n"
     "Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n"
     "Content-Transfer-Encoding: 8bit\r\n\r\na\r\n--x--\r\n--y\r\n\r\n\xe4\r\n--y--\r\n",
     "Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n"
     "Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n"
     "Content-Transfer-Encoding: 8bit\r\n\r\na\r\n--x--\r\n--y\r\n"
     "Content-Transfer-Encoding: quoted-printable\r\n\r\n=E4\r\n--y--\r\n"},
    {"signed", "DKIM-Signature: v=1\r\n\r\n\xe4\r\n", NULL},
    {"header not ASCII", "Subject: \xe4\r\n\r\n\xe4\r\n", NULL},
    {"encoded and 8-bit", "Content-Transfer-Encoding: base64\r\n\r\n\xe4\r\n", NULL},
    {"no boundary", "Content-Type: multipart/mixed\r\n\r\n\xe4\r\n", NULL},
};

NO_YIELD_CHECK static struct str convert(struct arena *arena, struct str text, const char **out_why)
{
    struct error err;
    struct body *body = body_memory_new(1 << 20);
    struct mail_content in = {.head = STR_EMPTY, .body = body};
    struct mail_content out = {0};
    struct str data = STR_EMPTY;
    assert_int_equal(body_append(body, text, &err), OK);
    assert_int_equal(body_seal(body, &err), OK);
    assert_int_equal(mail_to_seven_bit(arena, &in, &out, out_why, &err), OK);
    if (!*out_why) {
        assert_int_equal(mail_content_read(&out, out.head.len, 1 << 20, NULL, &data, &err), OK);
        assert_int_equal(out.head.len, mail_header_length(out.head));
        data = arena_printf(arena, "%.*s%.*s", STR_ARG(out.head), STR_ARG(data));
        body_unref(out.body);
    }
    body_unref(body);
    return data;
}

static void conversions(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *arena = arena_new(0);
        const char *why = NULL;
        struct str out = convert(arena, str_c(cases[i].in), &why);
        if ((why != NULL) != (cases[i].out == NULL))
            fail_msg("%s: %s", cases[i].name, why ? why : "was converted");
        if (!why && !str_equal(out, str_c(cases[i].out)))
            fail_msg("%s:\n%.*s", cases[i].name, STR_ARG(out));
        arena_free(arena);
    }
}

/* A long line is broken softly, and never inside an escape. */
static void long_lines(void **state)
{
    (void)state;
    struct arena *arena = arena_new(0);
    const char *why = NULL;
    struct str text = arena_printf(arena, "A: b\r\n\r\n%0500d\xff\r\n", 0);
    struct str out = convert(arena, text, &why);
    struct str line;
    size_t longest = 0;
    while (str_split(&out, '\n', &line)) {
        if (line.len > longest)
            longest = line.len;
    }
    assert_true(longest <= 77); /* 75, a soft break's =, and CR */
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(conversions), cmocka_unit_test(long_lines)};
    return cmocka_run_group_tests_name("mail-seven-bit", tests, NULL, NULL);
}
