/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_test.c - whole sessions as scripts, each replayed with the client's bytes cut at
 * every point.
 */
#include "smtp/server_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define GREETING "S: 220 mx.example.org ESMTP\n"
#define HELO     GREETING "C: HELO client.example\nS: 250 mx.example.org\n"
#define MAIL                                                                                       \
    HELO "C: MAIL FROM:<a@sender.example>\nS: 250 2.1.0 Ok\n"                                      \
         "C: RCPT TO:<b@example.org>\nS: 250 2.1.5 Ok\n"
#define DATA   MAIL "C: DATA\nS: 354 End data with <CR><LF>.<CR><LF>\n"
#define QUEUED "S: 250 2.0.0 Ok, queued as TEST\n"
#define QUIT   "C: QUIT\nS: 221 2.0.0 Bye\nE\n"

/* ---- the usual way ---- */

#define EHLO_LIST                                                                                  \
    "C: EHLO client.example\nS: 250-mx.example.org\nS: 250-PIPELINING\nS: 250-SIZE 52428800\n"     \
    "S: 250-AUTH PLAIN LOGIN\nS: 250-ENHANCEDSTATUSCODES\nS: 250-8BITMIME\nS: 250-SMTPUTF8\n"      \
    "S: 250-CHUNKING\nS: 250-LIMITS RCPTMAX=1000\nS: 250 DSN\n"

static void no_auth(struct rig *rig)
{
    rig->settings.authentication = false;
}

static const struct script usual[] = {
    {"a message by DATA", DATA "C: Subject: x\nC: \nC: body\nC: .\n" QUEUED QUIT, 0, NULL,
     "a@sender.example > b@example.org", "Subject: x\\r\\n\\r\\nbody\\r\\n",
     "127.0.0.1:2 > 127.0.0.1:1 client.example smtp", -1},
    {"EHLO", GREETING EHLO_LIST QUIT, 0, NULL, NULL, NULL, NULL, -1},
    {"EHLO without AUTH",
     GREETING "C: EHLO x\nS: 250-mx.example.org\nS: 250-PIPELINING\nS: 250-SIZE 52428800\n"
              "S: 250-ENHANCEDSTATUSCODES\nS: 250-8BITMIME\nS: 250-SMTPUTF8\n"
              "S: 250-CHUNKING\nS: 250-LIMITS RCPTMAX=1000\nS: 250 DSN\n"
              "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 502 5.5.1 *\n" QUIT,
     0, no_auth, NULL, NULL, NULL, -1},
    {"a pipelined group",
     HELO "C: MAIL FROM:<> SIZE=100 BODY=8BITMIME\nC: RCPT TO:<b@example.org>\n"
          "C: RCPT TO:<unknown@example.org>\nC: RCPT TO:<c@Example.NET> NOTIFY=NEVER\n"
          "C: RCPT TO:<d@elsewhere.example>\nC: RCPT TO:<later@example.org>\nC: DATA\n"
          "S: 250 2.1.0 Ok\nS: 250 2.1.5 Ok\nS: 550 5.1.1 No such user (ref TESTTEST)\n"
          "S: 250 2.1.5 Ok\nS: 550 5.7.1 Relaying denied (ref TESTTEST)\n"
          "S: 451 4.3.0 Try later (ref TESTTEST)\nS: 354 *\n"
          "C: ..dot\nC: .\n" QUEUED QUIT,
     0, NULL, " > b@example.org c@example.net", ".dot\\r\\n", NULL, -1},
    {"two messages, and commands right behind the end of data",
     DATA "C: one\nC: .\nC: MAIL FROM:<b@x.example>\nC: RCPT TO:<b@example.org>\nC: DATA\n" QUEUED
          "S: 250 2.1.0 Ok\nS: 250 2.1.5 Ok\nS: 354 *\nC: two\nC: .\n" QUEUED QUIT,
     0, NULL, "b@x.example > b@example.org", "two\\r\\n", NULL, 2},
    {"RSET",
     MAIL "C: RSET\nS: 250 2.0.0 Ok\nC: DATA\nS: 503 5.5.1 *\n"
          "C: RCPT TO:<b@example.org>\nS: 503 5.5.1 *\n" QUIT,
     0, NULL, NULL, NULL, NULL, -1},
    {"EHLO ends a transaction", MAIL EHLO_LIST "C: DATA\nS: 503 5.5.1 *\n" QUIT, 0, NULL, NULL,
     NULL, NULL, -1},
    {"an empty message", DATA "C: .\n" QUEUED QUIT, 0, NULL, "a@sender.example > b@example.org", "",
     NULL, -1},
    {"refused after its data",
     HELO "C: MAIL FROM:<reject@x.example>\nS: 250 *\nC: RCPT TO:<b@example.org>\nS: 250 *\n"
          "C: DATA\nS: 354 *\nC: x\nC: .\nS: 554 5.7.1 Not this (ref TESTTEST)\n" QUIT,
     0, NULL, NULL, NULL, NULL, -1},
    {"refused at MAIL",
     HELO "C: MAIL FROM:<refused@x.example>\nS: 550 5.7.1 Not you (ref TESTTEST)\n"
          "C: RCPT TO:<b@example.org>\nS: 503 5.5.1 *\n" QUIT,
     0, NULL, NULL, NULL, NULL, -1},
    {"no body to write to",
     HELO "C: MAIL FROM:<nobody@x.example>\nS: 250 *\nC: RCPT TO:<b@example.org>\nS: 250 *\n"
          "C: DATA\nS: 452 4.3.1 *\n" QUIT,
     0, NULL, NULL, NULL, NULL, -1},
    {"the small verbs",
     HELO "C: NOOP\nS: 250 2.0.0 Ok\nC: NOOP anything\nS: 250 2.0.0 Ok\nC: HELP\nS: 214 2.0.0 "
          "*\nC: VRFY alice\nS: 252 2.0.0 *\nC: EXPN list\nS: 502 5.5.1 *\nC: ETRN x\nS: 502 "
          "5.5.1 *\nC: RSET x\nS: 501 5.5.4 *\nC: QUIT x\nS: 501 5.5.4 *\n" QUIT,
     0, NULL, NULL, NULL, NULL, -1},
    {"VRFY of an own user says nothing",
     HELO "C: VRFY alice\nS: 252 2.0.0 *\nC: VRFY\nS: 501 5.5.4 *\n" QUIT, TRUSTED, NULL, NULL,
     NULL, NULL, -1},
    {"DSN and SMTPUTF8",
     GREETING EHLO_LIST "C: MAIL FROM:<\xc3\xa4@x.example> SMTPUTF8 RET=HDRS ENVID=a\n"
                        "S: 250 2.1.0 Ok\n"
                        "C: RCPT TO:<\xc3\xb6@example.org> ORCPT=utf-8;\xc3\xb6@b\n"
                        "S: 250 2.1.5 Ok\nC: DATA\nS: 354 *\nC: \xc3\xbc\nC: .\n" QUEUED QUIT,
     0, NULL, "\xc3\xa4@x.example > \xc3\xb6@example.org", "\xc3\xbc\\r\\n", NULL, -1},
};

static void usual_sessions(void **state)
{
    (void)state;
    run_scripts(usual, sizeof usual / sizeof usual[0]);
}

/* ---- order and syntax ---- */

static void tls_required(struct rig *rig)
{
    rig->settings.tls = SMTP_TLS_REQUIRED;
}

static void auth_required(struct rig *rig)
{
    rig->settings.authentication_required = true;
}

static void few_limits(struct rig *rig)
{
    rig->settings.limits.size = 1000;
    rig->settings.limits.recipients = 2;
    rig->settings.limits.errors = 4;
    rig->settings.limits.commands = 6;
    rig->settings.limits.hops = 1;
    rig->settings.limits.line = 40;
}

static void order_and_syntax(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        {"before HELO",
         GREETING
         "C: MAIL FROM:<>\nS: 503 5.5.1 Send EHLO first (ref TESTTEST)\n"
         "C: AUTH PLAIN =\nS: 503 5.5.1 *\nC: DATA\nS: 503 5.5.1 *\nC: NOOP\nS: 250 *\n" QUIT,
         0, NULL, NULL, NULL, NULL, -1},
        {"out of order",
         HELO "C: RCPT TO:<b@example.org>\nS: 503 5.5.1 Need MAIL first (ref TESTTEST)\nC: DATA\n"
              "S: 503 5.5.1 *\nC: MAIL FROM:<>\nS: 250 *\nC: MAIL FROM:<>\nS: 503 5.5.1 *\n"
              "C: DATA\nS: 554 5.5.1 No valid recipients (ref TESTTEST)\n" QUIT,
         0, NULL, NULL, NULL, NULL, -1},
        {"syntax of MAIL",
         HELO "C: MAIL\nS: 501 5.5.4 *\nC: MAIL a@b.example\nS: 501 5.5.4 *\n"
              "C: MAIL FROM:a@b.example\nS: 501 5.5.4 *\nC: MAIL FROM:<a@b.example.>\n"
              "S: 501 5.1.7 *\nC: MAIL FROM:<a>\nS: 501 5.1.7 *\nC: MAIL FROM:<> REQUIRETLS\n"
              "S: 555 5.5.4 *\nC: MAIL FROM:<> BODY=BINARYMIME\nS: 555 5.5.4 *\n"
              "C: MAIL FROM:<a@[192.0.2.1]>\nS: 550 5.1.8 *\n" QUIT,
         0, NULL, NULL, NULL, NULL, -1},
        {"syntax of RCPT",
         HELO "C: MAIL FROM:<>\nS: 250 *\nC: RCPT TO:<>\nS: 501 5.5.4 *\nC: RCPT FROM:<a@b>\n"
              "S: 501 5.5.4 *\nC: RCPT TO:<a>\nS: 501 5.1.3 *\nC: RCPT TO:<a@example.org.>\n"
              "S: 501 5.1.3 *\nC: RCPT TO:<a%b@example.org>\nS: 550 5.1.3 *\n"
              "C: RCPT TO:<a@[127.0.0.1]>\nS: 550 5.1.2 *\nC: RCPT TO:<postmaster@[127.0.0.1]>\n"
              "S: 250 *\nC: RCPT TO:<Postmaster>\nS: 250 *\nC: RCPT TO:<a@example.org> FOO=1\n"
              "S: 555 5.5.4 *\nC: RCPT TO:<@x.example:a@example.org>\nS: 250 *\nC: DATA\nS: 354 *\n"
              "C: .\n" QUEUED QUIT,
         0, NULL, " > postmaster@[127.0.0.1] Postmaster a@example.org", "", NULL, -1},
        {"a routed local part of an own user",
         HELO "C: MAIL FROM:<>\nS: 250 *\nC: RCPT TO:<a%b@example.org>\nS: 250 *\n" QUIT, TRUSTED,
         NULL, NULL, NULL, NULL, -1},
        {"HELO names",
         GREETING "C: HELO\nS: 501 5.5.4 *\nC: EHLO a b\nS: 501 5.5.4 *\nC: HELO <x>\nS: 250 *\n"
                  "C: MAIL FROM:<>\nS: 250 *\n" QUIT,
         0, NULL, NULL, NULL, "127.0.0.1:2 > 127.0.0.1:1 ?x? smtp", -1},
        {"TLS required",
         GREETING "C: EHLO x\nS: 250-*\nS: 250-*\nS: 250-*\nS: 250-ENHANCEDSTATUSCODES\nS: 250-*\n"
                  "S: 250-*\nS: 250-*\nS: 250-*\nS: 250 *\nC: MAIL FROM:<>\n"
                  "S: 530 5.7.0 Must issue a STARTTLS command first (ref TESTTEST)\n"
                  "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 530 5.7.0 *\nC: NOOP\nS: 250 *\n"
                  "C: BDAT 6\nC: QUIT\nS: 530 5.7.0 *\nC: STARTTLS\nS: 502 5.5.1 *\n" QUIT,
         0, tls_required, NULL, NULL, NULL, -1},
        {"AUTH required",
         HELO "C: MAIL FROM:<>\nS: 530 5.7.0 Authentication required (ref TESTTEST)\n"
              "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 235 2.7.0 Authenticated\nC: MAIL FROM:<>\n"
              "S: 250 *\n" QUIT,
         0, auth_required, NULL, NULL,
         "127.0.0.1:2 > 127.0.0.1:1 client.example smtp user=alice/PLAIN", -1},
        {"unknown commands",
         GREETING
         "C: FOO\nS: 500 5.5.1 Command not recognized (ref TESTTEST)\nC: \nS: 500 5.5.1 *\n"
         "C: LHLO x\nS: 500 5.5.1 *\nS: 421 4.7.0 Too many unknown commands (ref "
         "TESTTEST)\nE\n",
         0, NULL, NULL, NULL, NULL, -1},
        {"a web client", GREETING "C: POST / HTTP/1.1\nC: Host: x\nS: 421 4.7.0 *\nE\n", 0, NULL,
         NULL, NULL, NULL, -1},
        {"a web client's header", GREETING "C: NOOP\nC: Host: x\nS: 250 *\nS: 421 4.7.0 *\nE\n", 0,
         NULL, NULL, NULL, NULL, -1},
    };
    run_scripts(scripts, sizeof scripts / sizeof scripts[0]);
}

/* ---- limits ---- */

static void limits(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        {"too many errors",
         HELO "C: EXPN\nS: 502 *\nC: EXPN\nS: 502 *\nC: EXPN\nS: 502 *\nC: EXPN\nS: 502 *\n"
              "S: 421 4.7.0 Too many errors (ref TESTTEST)\nE\n",
         0, few_limits, NULL, NULL, NULL, -1},
        {"too many commands",
         HELO "C: NOOP\nS: 250 *\nC: NOOP\nS: 250 *\nC: NOOP\nS: 250 *\nC: NOOP\nS: 250 *\n"
              "C: NOOP\nS: 250 *\nS: 421 4.7.0 Too many commands (ref TESTTEST)\nE\n",
         0, few_limits, NULL, NULL, NULL, -1},
        {"guessing addresses",
         HELO "C: MAIL FROM:<>\nS: 250 *\nC: RCPT TO:<unknown@example.org>\nS: 550 *\n"
              "C: RCPT TO:<unknown@example.org>\nS: 550 *\nC: RCPT TO:<unknown@example.org>\n"
              "S: 550 *\nC: RCPT TO:<unknown@example.org>\nS: 550 *\nS: 421 4.7.0 *\nE\n",
         0, few_limits, NULL, NULL, NULL, -1},
        {"too many recipients",
         MAIL
         "C: RCPT TO:<c@example.org>\nS: 250 *\nC: RCPT TO:<d@example.org>\n"
         "S: 452 4.5.3 Too many recipients (ref TESTTEST)\nC: DATA\nS: 354 *\nC: .\n" QUEUED QUIT,
         0, few_limits, "a@sender.example > b@example.org c@example.org", "", NULL, -1},
        {"declared too big",
         HELO "C: MAIL FROM:<> SIZE=1001\nS: 552 5.3.4 Message too big (ref TESTTEST)\n"
              "C: MAIL FROM:<> SIZE=99999999999999999999\nS: 552 5.3.4 *\n"
              "C: MAIL FROM:<> SIZE=1000\nS: 250 *\n" QUIT,
         0, few_limits, NULL, NULL, NULL, -1},
        {"a line too long",
         DATA "C: 12345678901234567890123456789012345678901\nC: .\n"
              "S: 554 5.6.0 Line too long (ref TESTTEST)\n" QUIT,
         0, few_limits, NULL, NULL, NULL, -1},
        {"a mail loop",
         DATA "C: Received: a\nC: Received: b\nC: \nC: .\nS: 554 5.4.6 *\nC: NOOP\nS: 250 *\n" QUIT,
         0, few_limits, NULL, NULL, NULL, -1},
        {"no command for five minutes",
         HELO "T: 299\nC: NOOP\nS: 250 *\nT: 301\nS: 421 4.4.2 *\nE\n", NEVER_CUT, NULL, NULL, NULL,
         NULL, -1},
        {"a command in drops", HELO "R: NO\nT: 200\nR: OP\nT: 101\nS: 421 4.4.2 *\nE\n", NEVER_CUT,
         NULL, NULL, NULL, NULL, -1},
        {"content too slow", DATA "R: 12345\nT: 50\nR: 12345\nT: 11\nS: 421 4.4.2 *\nE\n",
         NEVER_CUT, NULL, NULL, NULL, NULL, -1},
        {"a drained listener",
         MAIL "D\nC: DATA\nS: 354 *\nC: .\n" QUEUED "S: 421 4.3.2 Service shutting down (ref "
              "TESTTEST)\nE\n",
         0, NULL, "a@sender.example > b@example.org", "", NULL, -1},
    };
    run_scripts(scripts, sizeof scripts / sizeof scripts[0]);
}

static void play_over_size(const char *behind)
{
    /* an over-size message is read to its true end, whatever dots are in it */
    char text[8192];
    char lines[4096] = "";
    for (int i = 0; i < 40; i++)
        strncat(lines, "C: 123456789012345678901234567890\n", sizeof lines - strlen(lines) - 1);
    snprintf(text, sizeof text, DATA "%s%sC: .\nS: 552 5.3.4 Message too big (ref TESTTEST)\n" QUIT,
             lines, behind);
    struct script script = {"over-size", text, NEVER_CUT, few_limits, NULL, NULL, NULL, 0};
    run_script(&script, 0);
}

static void over_size(void **state)
{
    (void)state;
    play_over_size("");
    play_over_size("C: ..\nC: .x\nC: . \nC: QUIT\n");
}

/* Bytes buy time: 500 of them (min_rate) a second beyond the first minute. */
static void a_slow_client_that_sends_enough(void **state)
{
    (void)state;
    static char text[65536] = DATA;
    for (int i = 0; i < 500; i++) /* 50,000 bytes: 100 seconds */
        snprintf(text + strlen(text), 104, "C: %098d\n", 0);
    size_t lines = strlen(text);
    for (int k = 0; k < 2; k++) {
        snprintf(text + lines, sizeof text - lines,
                 k ? "T: 99\nC: .\n" QUEUED QUIT : "T: 101\nS: 421 4.4.2 *\nE\n");
        struct script script = {"paid", text, NEVER_CUT, NULL, NULL, NULL, NULL, k};
        run_script(&script, 0);
    }
}

/* ---- line ends ---- */

static void normalise(struct rig *rig)
{
    rig->settings.line_endings = SMTP_LINES_NORMALISE;
}

static void reject(struct rig *rig)
{
    rig->settings.line_endings = SMTP_LINES_REJECT;
}

static void line_ends(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        {"a bare LF from a stranger",
         DATA "R: a\\nb\\r\\n\nC: .\nS: 550 5.5.2 Bare <LF> in message (ref TESTTEST)\nE\n", 0,
         NULL, NULL, NULL, NULL, -1},
        {"a smuggled message",
         DATA "R: a\\n.\\r\\nMAIL FROM:<x@y.example>\\r\\nRCPT TO:<c@example.org>\\r\\nDATA\\r\\n\n"
              "R: b\\r\\n.\\r\\n\nS: 550 5.5.2 *\nE\n",
         0, NULL, NULL, NULL, NULL, -1},
        {"a smuggled message from an own user stays one message",
         DATA "R: a\\n.\\r\\nMAIL FROM:<x@y.example>\\r\\n.\\r\\n\n" QUEUED QUIT, TRUSTED, NULL,
         "a@sender.example > b@example.org", "a\\r\\n\\r\\nMAIL FROM:<x@y.example>\\r\\n", NULL,
         -1},
        {"a bare LF from an own user is mended", DATA "R: a\\nb\\r\\n\nC: .\n" QUEUED QUIT, TRUSTED,
         NULL, "a@sender.example > b@example.org", "a\\r\\nb\\r\\n", NULL, -1},
        {"a bare LF where all is mended", DATA "R: a\\nb\\r\\n\nC: .\n" QUEUED QUIT, 0, normalise,
         "a@sender.example > b@example.org", "a\\r\\nb\\r\\n", NULL, -1},
        {"a bare LF where nothing is mended", DATA "R: a\\nb\\r\\n\nC: .\nS: 550 5.5.2 *\nE\n",
         TRUSTED, reject, NULL, NULL, NULL, -1},
        {"a bare CR is refused of everybody",
         DATA "R: a\\rb\\r\\n\nC: .\nS: 550 5.5.2 Bare <CR> in message (ref TESTTEST)\nE\n",
         TRUSTED, NULL, NULL, NULL, NULL, -1},
        {"NUL is refused of everybody",
         DATA "R: a\\0b\\r\\n\nC: .\nS: 550 5.5.2 NUL in message (ref TESTTEST)\nE\n", TRUSTED,
         NULL, NULL, NULL, NULL, -1},
        {"a command that ends in a bare LF", HELO "R: NOOP\\nNOOP\\r\\n\nS: 500 5.5.2 *\nE\n", 0,
         NULL, NULL, NULL, NULL, -1},
        {"a command of an own user that ends in a bare LF", HELO "R: NOOP\\n\nS: 250 *\n" QUIT,
         TRUSTED, NULL, NULL, NULL, NULL, -1},
        {"a bare CR in a command", HELO "R: NOOP\\rNOOP\\r\\n\nS: 500 5.5.2 *\nE\n", TRUSTED, NULL,
         NULL, NULL, NULL, -1},
        {"NUL in a command", HELO "R: NOOP \\0\\r\\n\nS: 500 5.5.2 *\nE\n", 0, NULL, NULL, NULL,
         NULL, -1},
    };
    run_scripts(scripts, sizeof scripts / sizeof scripts[0]);
}

/* A second message behind each known bad end of data, by DATA and by BDAT, from strangers and own
 * users: there is never a second one, and never one in pieces. */
static void nothing_is_smuggled(void **state)
{
    (void)state;
    static const char *const ends[] = {
        "\\n.\\n",          "\\r.\\r",
        "\\r.\\n",          "\\n.\\r",
        "\\n.\\r\\n",       "\\r\\n.\\n",
        "\\r.\\r\\n",       "\\r\\n.\\r",
        "\\r\\n\\0.\\r\\n", "\\r\\n.\\0\\r\\n",
        "\\r\\n.\\r\\r\\n", "\\r\\r\\n.\\r\\r\\n",
        "\\r\\n. \\r\\n",   "\\r\\n.\\x1a\\r\\n",
    };
    static const char tail[] = "MAIL FROM:<evil@x.example>\\r\\nRCPT TO:<b@example.org>\\r\\n"
                               "DATA\\r\\nevil\\r\\n";
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        for (int mode = 0; mode < 4; mode++) {
            char text[2048];
            char bytes[512];
            char content[512];
            snprintf(content, sizeof content, "a%s%s", ends[i], tail);
            size_t size = unescape(content, strlen(content), bytes);
            if (mode & 1)
                snprintf(text, sizeof text, MAIL "R: BDAT %zu LAST\\r\\n%s\nS: *\n", size, content);
            else
                snprintf(text, sizeof text, DATA "R: %s.\\r\\n\nS: *\n", content);
            /* mended or with an odd line only, it is one message of the first sender */
            bool mends = (mode & 2) && (i == 4 || i == 5 || i == 0);
            bool clean = i == 12 || i == 13 || mends;
            struct script script = {ends[i],
                                    text,
                                    mode & 2 ? TRUSTED : 0,
                                    NULL,
                                    clean ? "a@sender.example > b@example.org" : NULL,
                                    NULL,
                                    NULL,
                                    clean};
            size_t sent = run_script(&script, 0);
            for (size_t cut = sent - size - 5; cut < sent; cut++)
                run_script(&script, cut);
        }
}

/* ---- what may not be pipelined (cuts would make it legal) ---- */

static void refuse_connection(struct rig *rig)
{
    rig->refuse_connection = true;
}

static void pipelining(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        {"input before the greeting", "C: EHLO x\nS: 554 5.5.1 *\nE\n", NEVER_CUT, NULL, NULL, NULL,
         NULL, -1},
        {"content before 354", MAIL "C: DATA\nC: Subject: x\nS: 554 5.5.1 *\nE\n", NEVER_CUT, NULL,
         NULL, NULL, NULL, -1},
        {"a command behind STARTTLS", HELO "C: STARTTLS\nC: NOOP\nS: 554 5.5.1 *\nE\n", NEVER_CUT,
         NULL, NULL, NULL, NULL, -1},
        {"a command behind AUTH",
         HELO "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nC: NOOP\nS: 554 5.5.1 *\nE\n", NEVER_CUT, NULL,
         NULL, NULL, NULL, -1},
        {"a refused connection", "S: 554 5.7.1 Go away (ref TESTTEST)\nE\n", NEVER_CUT,
         refuse_connection, NULL, NULL, NULL, -1},
        {"STARTTLS that is not offered", HELO "C: STARTTLS\nS: 502 5.5.1 *\n" QUIT, 0, NULL, NULL,
         NULL, NULL, -1},
    };
    run_scripts(scripts, sizeof scripts / sizeof scripts[0]);
}

/* ---- AUTH ---- */

static void no_clear_auth(struct rig *rig)
{
    rig->settings.allow_cleartext_auth = false;
}

static void authentication(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        {"PLAIN with an initial response",
         HELO "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 235 2.7.0 Authenticated\n"
              "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 503 5.5.1 *\nC: MAIL FROM:<>\nS: 250 *\n"
              "C: AUTH LOGIN\nS: 503 5.5.1 *\n" QUIT,
         0, NULL, NULL, NULL, "127.0.0.1:2 > 127.0.0.1:1 client.example smtp user=alice/PLAIN", -1},
        {"PLAIN with a challenge",
         HELO "C: AUTH PLAIN\nS: 334 \nC: YWxpY2UAYWxpY2UAc2VjcmV0\nS: 235 2.7.0 *\n" QUIT, 0, NULL,
         NULL, NULL, NULL, -1},
        {"LOGIN",
         HELO "C: auth login\nS: 334 VXNlcm5hbWU6\nC: YWxpY2U=\nS: 334 UGFzc3dvcmQ6\nC: "
              "c2VjcmV0\nS: 235 2.7.0 *\nC: MAIL FROM:<>\nS: 250 *\n" QUIT,
         0, NULL, NULL, NULL, "127.0.0.1:2 > 127.0.0.1:1 client.example smtp user=alice/LOGIN", -1},
        {"LOGIN with the name at once",
         HELO "C: AUTH LOGIN YWxpY2U=\nS: 334 UGFzc3dvcmQ6\nC: c2VjcmV0\nS: 235 *\n" QUIT, 0, NULL,
         NULL, NULL, NULL, -1},
        {"not in a transaction",
         HELO
         "C: MAIL FROM:<>\nS: 250 *\nC: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 503 5.5.1 *\n" QUIT,
         0, NULL, NULL, NULL, NULL, -1},
        {"malformed",
         HELO "C: AUTH\nS: 501 5.5.4 *\nC: AUTH CRAM-MD5\nS: 504 5.5.4 *\nC: AUTH PLAIN x\n"
              "S: 501 5.5.2 *\nC: AUTH PLAIN AGFsaWNl\nS: 501 5.5.2 *\nC: AUTH PLAIN a b\n"
              "S: 501 5.5.2 *\nC: AUTH LOGIN\nS: 334 *\nC: *\n"
              "S: 501 5.0.0 Authentication cancelled (ref TESTTEST)\nC: AUTH PLAIN\nS: 334 \nC: *\n"
              "S: 501 5.0.0 *\n" QUIT,
         0, NULL, NULL, NULL, NULL, -1},
        {"another identity", HELO "C: AUTH PLAIN Ym9iAGFsaWNlAHNlY3JldA==\nS: 535 5.7.8 *\n" QUIT,
         0, NULL, NULL, NULL, NULL, -1},
        {"empty passwords",
         HELO "C: AUTH PLAIN AGFsaWNlAA==\nS: 535 5.7.8 *\nC: AUTH LOGIN YWxpY2U=\nS: 334 *\nC: \n"
              "S: 535 5.7.8 *\n" QUIT,
         0, NULL, NULL, NULL, NULL, -1},
        {"three failures",
         HELO "C: AUTH PLAIN AGFsaWNlAHdyb25n\nS: 535 5.7.8 Authentication failed (ref TESTTEST)\n"
              "C: AUTH PLAIN AGFsaWNlAHdyb25n\nS: 535 5.7.8 *\nC: AUTH PLAIN =\nS: 501 *\n"
              "C: AUTH PLAIN AGFsaWNlAHdyb25n\nS: 535 5.7.8 *\n"
              "S: 421 4.7.0 Too many failed logins (ref TESTTEST)\nE\n",
         0, NULL, NULL, NULL, NULL, -1},
        {"not decided now", HELO "C: AUTH PLAIN AGxhdGVyAHg=\nS: 454 4.7.0 *\n" QUIT, 0, NULL, NULL,
         NULL, NULL, -1},
        {"not in clear, and no TLS to be had",
         HELO "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 502 5.5.1 *\n" QUIT, 0, no_clear_auth, NULL,
         NULL, NULL, -1},
    };
    run_scripts(scripts, sizeof scripts / sizeof scripts[0]);
}

/* ---- BDAT ---- */

static void small_body(struct rig *rig)
{
    rig->body_max = 10;
}

static void chunks(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        {"one chunk", MAIL "R: BDAT 6 LAST\\r\\n.\\r\\nx\\r\\n\n" QUEUED QUIT, 0, NULL,
         "a@sender.example > b@example.org", ".\\r\\nx\\r\\n", NULL, -1},
        {"chunks cut inside of a line end",
         MAIL "R: BDAT 2\\r\\na\\r\nR: BDAT 2\\r\\n\\nb\nR: BDAT 0 LAST\\r\\n\n"
              "S: 250 2.0.0 2 octets received\nS: 250 2.0.0 2 octets received\n" QUEUED QUIT,
         0, NULL, "a@sender.example > b@example.org", "a\\r\\nb\\r\\n", NULL, -1},
        {"an empty message", MAIL "C: BDAT 0 LAST\n" QUEUED QUIT, 0, NULL,
         "a@sender.example > b@example.org", "", NULL, -1},
        {"a missing last line end", MAIL "R: BDAT 1 LAST\\r\\na\n" QUEUED QUIT, 0, NULL,
         "a@sender.example > b@example.org", "a\\r\\n", NULL, -1},
        {"dots are not stuffing", MAIL "R: BDAT 8 LAST\\r\\n..a\\r\\n.\\r\\n\n" QUEUED QUIT, 0,
         NULL, "a@sender.example > b@example.org", "..a\\r\\n.\\r\\n", NULL, -1},
        {"before MAIL its octets are thrown away",
         HELO "R: BDAT 6\\r\\nQUIT\\r\\n\nC: NOOP\nS: 503 5.5.1 *\nS: 250 *\n" QUIT, 0, NULL, NULL,
         NULL, NULL, -1},
        {"before HELO too", GREETING "R: BDAT 6 LAST\\r\\nQUIT\\r\\n\nS: 503 5.5.1 *\n" QUIT, 0,
         NULL, NULL, NULL, NULL, -1},
        {"without a recipient",
         HELO "C: MAIL FROM:<>\nS: 250 *\nR: BDAT 6 LAST\\r\\nQUIT\\r\\n\nS: 554 5.5.1 *\n"
              "C: MAIL FROM:<>\nS: 250 *\n" QUIT,
         0, NULL, NULL, NULL, NULL, -1},
        {"nobody knows how long it is", MAIL "C: BDAT 18446744073709551616\nS: 501 5.5.4 *\nE\n", 0,
         NULL, NULL, NULL, NULL, -1},
        {"no size", MAIL "C: BDAT LAST\nS: 501 5.5.4 *\nE\n", 0, NULL, NULL, NULL, NULL, -1},
        {"mixed with DATA",
         MAIL "R: BDAT 1\\r\\na\nS: 250 *\nC: DATA\nS: 503 5.5.1 *\nC: RCPT TO:<c@example.org>\n"
              "S: 503 5.5.1 *\nC: MAIL FROM:<>\nS: 503 5.5.1 *\nC: BDAT 0 LAST\n" QUEUED QUIT,
         0, NULL, "a@sender.example > b@example.org", "a\\r\\n", NULL, -1},
        {"RSET between chunks",
         MAIL "R: BDAT 1\\r\\na\nS: 250 *\nC: RSET\nS: 250 *\nR: BDAT 6 LAST\\r\\nQUIT\\r\\n\n"
              "S: 503 5.5.1 *\n" QUIT,
         0, NULL, NULL, NULL, NULL, -1},
        {"a bare LF at the end of a chunk",
         MAIL "R: BDAT 2\\r\\na\\n\nR: BDAT 1 LAST\\r\\nb\nS: 550 5.5.2 *\nE\n", 0, NULL, NULL,
         NULL, NULL, -1},
        {"a CR at the end of the message", MAIL "R: BDAT 2 LAST\\r\\na\\r\nS: 550 5.5.2 *\nE\n", 0,
         NULL, NULL, NULL, NULL, -1},
        {"a mended LF at the end of a chunk and of the message",
         MAIL "R: BDAT 2\\r\\na\\n\nS: 250 *\nR: BDAT 2 LAST\\r\\nb\\n\n" QUEUED QUIT, TRUSTED,
         NULL, "a@sender.example > b@example.org", "a\\r\\nb\\r\\n", NULL, -1},
        {"no room for the body",
         MAIL "R: BDAT 12\\r\\n1234567890\\r\\n\nS: 452 4.3.1 *\nR: BDAT 6\\r\\nQUIT\\r\\n\n"
              "S: 503 5.5.1 *\nR: BDAT 6 LAST\\r\\nQUIT\\r\\n\nS: 503 5.5.1 *\n"
              "C: MAIL FROM:<>\nS: 250 *\n" QUIT,
         0, small_body, NULL, NULL, NULL, -1},
        {"no body at all",
         HELO "C: MAIL FROM:<nobody@x.example>\nS: 250 *\nC: RCPT TO:<b@example.org>\nS: 250 *\n"
              "R: BDAT 6\\r\\nQUIT\\r\\n\nS: 452 4.3.1 *\nR: BDAT 6 LAST\\r\\nQUIT\\r\\n\n"
              "S: 503 5.5.1 *\nC: MAIL FROM:<>\nS: 250 *\n" QUIT,
         0, NULL, NULL, NULL, NULL, -1},
        {"no room for the body of DATA",
         DATA "C: 1234567890\nC: .\nS: 452 4.3.1 *\nC: MAIL FROM:<>\nS: 250 *\n" QUIT, 0,
         small_body, NULL, NULL, NULL, -1},
    };
    run_scripts(scripts, sizeof scripts / sizeof scripts[0]);
}

/* ---- front ends ---- */

static const struct net_network loopback = {.ip = {.family = 4, .bytes = {127, 0, 0, 1}},
                                            .bits = 32};

static void behind_proxy(struct rig *rig)
{
    rig->settings.proxy_from = &loopback;
    rig->settings.proxy_from_count = 1;
}

static void with_xclient(struct rig *rig)
{
    rig->settings.xclient_from = &loopback;
    rig->settings.xclient_from_count = 1;
}

static void front_ends(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        {"PROXY",
         "C: PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\n" HELO
         "C: MAIL FROM:<>\nS: 250 *\nC: RCPT TO:<postmaster@[192.0.2.1]>\nS: 250 *\n" QUIT,
         TRUSTED, behind_proxy, NULL, NULL,
         "192.0.2.7:4711 > 192.0.2.1:25 client.example smtp trusted", -1},
        {"PROXY UNKNOWN is not trusted",
         "C: PROXY UNKNOWN\n" HELO "C: MAIL FROM:<>\nS: 250 *\n" QUIT, TRUSTED, behind_proxy, NULL,
         NULL, "127.0.0.1:2 > 127.0.0.1:1 client.example smtp proxy", -1},
        {"no PROXY header", "C: EHLO client.example\nE\n", 0, behind_proxy, NULL, NULL, NULL, -1},
        {"XCLIENT from somebody else", HELO "C: XCLIENT ADDR=192.0.2.7\nS: 502 5.5.1 *\n" QUIT,
         TRUSTED, NULL, NULL, NULL, NULL, -1},
        {"XCLIENT",
         GREETING "C: XCLIENT NAME=client.example ADDR=192.0.2.7 PORT=4711 PROTO=ESMTP "
                  "HELO=a+2Bb LOGIN=alice DESTADDR=IPV6:2001:db8::1 DESTPORT=25\n" HELO
                  "C: MAIL FROM:<>\nS: 250 *\n" QUIT,
         TRUSTED, with_xclient, NULL, NULL,
         "192.0.2.7:4711 > [2001:db8::1]:25 client.example smtp name=client.example trusted", -1},
        {"XCLIENT makes the session as new",
         HELO
         "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 235 *\nC: XCLIENT ADDR=192.0.2.7\n" GREETING
         "C: MAIL FROM:<>\nS: 503 5.5.1 *\nC: HELO x\nS: 250 *\nC: MAIL FROM:<>\nS: 250 *\n" QUIT,
         0, with_xclient, NULL, NULL, "192.0.2.7:0 > 127.0.0.1:1 x smtp", -1},
        {"XCLIENT for another client",
         GREETING "C: XCLIENT NAME=client.example ADDR=192.0.2.7\n" GREETING
                  "C: XCLIENT ADDR=192.0.2.8\n" HELO "C: MAIL FROM:<>\nS: 250 *\n" QUIT,
         0, with_xclient, NULL, NULL, "192.0.2.8:0 > 127.0.0.1:1 client.example smtp", -1},
        {"XCLIENT with something wrong changes nothing",
         HELO "C: XCLIENT ADDR=192.0.2.7 PORT=x\nS: 501 5.5.4 *\nC: XCLIENT\nS: 501 5.5.4 *\n"
              "C: XCLIENT ADDR=1.2.3\nS: 501 5.5.4 *\nC: XCLIENT FOO=1\nS: 501 5.5.4 *\n"
              "C: XCLIENT NAME=a+0Ab\nS: 501 5.5.4 *\nC: MAIL FROM:<>\nS: 250 *\n"
              "C: XCLIENT ADDR=192.0.2.7\nS: 503 5.5.1 *\n" QUIT,
         TRUSTED, with_xclient, NULL, NULL, "127.0.0.1:2 > 127.0.0.1:1 client.example smtp proxy",
         -1},
        {"XCLIENT without a known client",
         GREETING "C: XCLIENT ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL]\n" HELO
                  "C: MAIL FROM:<>\nS: 250 *\n" QUIT,
         TRUSTED, with_xclient, NULL, NULL, "127.0.0.1:0 > 127.0.0.1:1 client.example smtp proxy",
         -1},
    };
    run_scripts(scripts, sizeof scripts / sizeof scripts[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usual_sessions),
        cmocka_unit_test(order_and_syntax),
        cmocka_unit_test(limits),
        cmocka_unit_test(over_size),
        cmocka_unit_test(a_slow_client_that_sends_enough),
        cmocka_unit_test(line_ends),
        cmocka_unit_test(pipelining),
        cmocka_unit_test(nothing_is_smuggled),
        cmocka_unit_test(authentication),
        cmocka_unit_test(chunks),
        cmocka_unit_test(front_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
