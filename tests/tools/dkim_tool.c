/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/tools/dkim_tool.c - signs and verifies files, so that other programs can be asked whether
 * they agree. Not installed.
 *
 *   dkim-tool verify ZONE FILE…                               a line a file: its results
 *   dkim-tool sign DOMAIN SELECTOR KEY HEADER/BODY FILE…      writes FILE.signed
 *
 * ZONE has a line a key: its name, a tab, the record.
 */
#include "base/buf.h"
#include "base/check.h"
#include "content/arc.h"
#include "content/dkim.h"
#include "content/signing_key.h"
#include "mail/header.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_SIZE_MAX = 64 << 20 };

/* ---- files ---- */

static void read_file(const char *path, struct buf *out)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        perror(path);
        exit(2);
    }
    size_t got = 1;
    while (got) {
        char *room = buf_reserve(out, 65536);
        check(room != NULL);
        got = fread(room, 1, 65536, file);
        out->len += got;
    }
    fclose(file);
}

struct message {
    struct arena *arena;
    struct mail_content content;
    struct dkim_message dkim;
};

static NO_YIELD_CHECK void message_open(struct message *message, struct str text)
{
    struct error err;
    size_t header = mail_header_length(text);
    message->arena = arena_new(0);
    message->content =
        (struct mail_content){.head = STR_EMPTY, .body = body_memory_new(FILE_SIZE_MAX)};
    check(body_append(message->content.body, text, &err) == OK);
    check(body_seal(message->content.body, &err) == OK);
    dkim_message_init(&message->dkim, &message->content,
                      str_slice(text, 0, header ? header : text.len));
}

static void message_close(struct message *message)
{
    body_unref(message->content.body);
    arena_free(message->arena);
}

/* ---- verify ---- */

static enum result look_up(void *context, struct str name, struct arena *arena,
                           struct dns_text_answer *out, struct error *err)
{
    struct str rest = *(const struct str *)context;
    struct str line, owner;
    (void)err;
    *out = (struct dns_text_answer){.status = DNS_NO_NAME};
    while (str_split(&rest, '\n', &line)) {
        if (!str_split(&line, '\t', &owner) || !line.ptr || !str_equal_nocase(owner, name))
            continue;
        out->texts = ARENA_NEW(arena, struct str);
        *out->texts = line;
        out->count = 1;
        out->status = DNS_FOUND;
    }
    return OK;
}

static NO_YIELD_CHECK void verify_file(struct str zone, const char *path)
{
    struct message message;
    struct dkim_answer answer;
    struct arc_answer chain;
    struct error err;
    struct dkim_dns dns = {.text = look_up, .context = &zone};
    struct buf text BUF_CLEANUP;
    buf_init(&text, FILE_SIZE_MAX);
    read_file(path, &text);
    message_open(&message, buf_str(&text));
    check(dkim_verify(&message.dkim, &dns, message.arena, &answer, &err) == OK);
    check(arc_verify(&message.dkim, &dns, message.arena, &chain, &err) == OK);
    printf("%s\t%s\tarc=%s", path, dkim_result_name(answer.result), arc_result_name(chain.result));
    for (size_t i = 0; i < answer.count; i++)
        printf("\t%s %.*s %.*s", dkim_result_name(answer.signatures[i].result),
               STR_ARG(answer.signatures[i].domain), STR_ARG(answer.signatures[i].detail));
    printf("\n");
    message_close(&message);
}

static int verify(int count, char **arguments)
{
    struct buf zone BUF_CLEANUP;
    buf_init(&zone, FILE_SIZE_MAX);
    read_file(arguments[0], &zone);
    for (int i = 1; i < count; i++)
        verify_file(buf_str(&zone), arguments[i]);
    return 0;
}

/* ---- sign ---- */

static enum dkim_canon canon_of(const char *word)
{
    return strncmp(word, "simple", 6) == 0 ? DKIM_SIMPLE : DKIM_RELAXED;
}

static NO_YIELD_CHECK void sign_file(const struct dkim_signer *signer, const char *path)
{
    struct message message;
    struct error err;
    struct str field;
    struct buf text BUF_CLEANUP;
    char name[4096];
    buf_init(&text, FILE_SIZE_MAX);
    read_file(path, &text);
    message_open(&message, buf_str(&text));
    if (dkim_sign(&message.dkim, signer, message.arena, &field, &err) != OK) {
        printf("%s\t%s\n", path, err.text);
        message_close(&message);
        return;
    }
    snprintf(name, sizeof name, "%s.signed", path);
    FILE *file = fopen(name, "we");
    check(file && fwrite(field.ptr, 1, field.len, file) == field.len);
    check(fwrite(text.ptr, 1, text.len, file) == text.len && fclose(file) == 0);
    message_close(&message);
}

static int sign(int count, char **arguments)
{
    struct error err;
    struct sign_key *key;
    bool exposed;
    if (signing_key_read(arguments[2], &key, &exposed, &err) != OK) {
        fprintf(stderr, "%s\n", err.text);
        return 2;
    }
    const char *slash = strchr(arguments[3], '/');
    struct dkim_signer signer = {.domain = str_c(arguments[0]),
                                 .selector = str_c(arguments[1]),
                                 .key = key,
                                 .header = canon_of(arguments[3]),
                                 .body = canon_of(slash ? slash + 1 : arguments[3])};
    for (int i = 4; i < count; i++)
        sign_file(&signer, arguments[i]);
    sign_key_free(key);
    return 0;
}

int main(int count, char **arguments)
{
    if (count > 3 && strcmp(arguments[1], "verify") == 0)
        return verify(count - 2, arguments + 2);
    if (count > 6 && strcmp(arguments[1], "sign") == 0)
        return sign(count - 2, arguments + 2);
    fprintf(stderr,
            "usage: dkim-tool verify ZONE FILE… | sign DOMAIN SELECTOR KEY HEADER/BODY FILE…\n");
    return 2;
}
