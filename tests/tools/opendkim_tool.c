/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/tools/opendkim_tool.c - what dkim-tool does, done by libopendkim: another opinion on the
 * same files, and its price. Not installed.
 *
 *   opendkim-tool verify ZONE FILE…                               a line a file: its result
 *   opendkim-tool sign DOMAIN SELECTOR KEY HEADER/BODY FILE…      writes FILE.signed
 *   opendkim-tool bench FOLDER                                    CPU time a message, see
 * bench/content
 *
 * ZONE has a line a key: its name, a tab, the record.
 */
#include <opendkim/dkim.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { BATCHES = 10, BATCH = 50, RECORD_MAX = 4096 };

struct text {
    char *bytes;
    size_t len;
};

/* ---- files ---- */

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static struct text read_file(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "", name);
    FILE *file = fopen(path, "re");
    if (!file || fseek(file, 0, SEEK_END) != 0)
        die(path);
    long size = ftell(file);
    rewind(file);
    struct text text = {malloc((size_t)size + 1), (size_t)size};
    if (!text.bytes || fread(text.bytes, 1, text.len, file) != text.len)
        die(path);
    text.bytes[text.len] = '\0';
    fclose(file);
    return text;
}

/* ---- the library ---- */

static struct text zone; /* the library's lookup has no context of ours */

static DKIM_CBSTAT look_up(DKIM *dkim, DKIM_SIGINFO *sig, u_char *out, size_t size)
{
    char name[512];
    int len = snprintf(name, sizeof name, "%s._domainkey.%s\t", (char *)dkim_sig_getselector(sig),
                       (char *)dkim_sig_getdomain(sig));
    (void)dkim;
    for (const char *line = zone.bytes; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncasecmp(line, name, (size_t)len) != 0)
            continue;
        snprintf((char *)out, size, "%.*s", (int)strcspn(line + len, "\n"), line + len);
        return DKIM_CBSTAT_CONTINUE;
    }
    return DKIM_CBSTAT_NOTFOUND;
}

static DKIM_LIB *open_library(void)
{
    DKIM_LIB *library = dkim_init(NULL, NULL);
    if (!library)
        die("dkim_init");
    dkim_set_key_lookup(library, look_up);
    dkim_options(library, DKIM_OP_SETOPT, DKIM_OPTS_SIGNHDRS, (void *)dkim_should_signhdrs,
                 sizeof(u_char **));
    return library;
}

/* The end of the field that starts at `at`, before its CRLF. */
static size_t field_end(struct text message, size_t at)
{
    while (at < message.len) {
        char *found = memmem(message.bytes + at, message.len - at, "\r\n", 2);
        if (!found)
            return message.len;
        at = (size_t)(found - message.bytes);
        if (at + 2 >= message.len || (found[2] != ' ' && found[2] != '\t'))
            return at;
        at += 2;
    }
    return message.len;
}

/* As a milter would be given the message: field by field, then the body. */
static DKIM_STAT feed(DKIM *dkim, struct text message)
{
    size_t at = 0;
    bool testing;
    DKIM_STAT status;
    while (at < message.len && strncmp(message.bytes + at, "\r\n", 2) != 0) {
        size_t end = field_end(message, at);
        status = dkim_header(dkim, (u_char *)message.bytes + at, end - at);
        if (status != DKIM_STAT_OK)
            return status;
        at = end + 2;
    }
    status = dkim_eoh(dkim);
    if (status != DKIM_STAT_OK)
        return status;
    if (at + 2 < message.len)
        status = dkim_body(dkim, (u_char *)message.bytes + at + 2, message.len - at - 2);
    return status == DKIM_STAT_OK ? dkim_eom(dkim, &testing) : status;
}

static DKIM_STAT verify_text(DKIM_LIB *library, struct text message, const char **out_why)
{
    DKIM_STAT status;
    DKIM *dkim = dkim_verify(library, (const u_char *)"job", NULL, &status);
    *out_why = "";
    if (!dkim)
        return status;
    status = feed(dkim, message);
    DKIM_SIGINFO *sig = dkim_getsignature(dkim);
    if (sig)
        *out_why = dkim_sig_geterrorstr(dkim_sig_geterror(sig));
    dkim_free(dkim);
    return status;
}

static DKIM_STAT sign_text(DKIM_LIB *library, struct text message, const char *domain,
                           const char *selector, struct text key, const char *canon, bool ed25519,
                           char *out, size_t size)
{
    DKIM_STAT status;
    const char *slash = strchr(canon, '/');
    dkim_canon_t header = strncmp(canon, "simple", 6) == 0 ? DKIM_CANON_SIMPLE : DKIM_CANON_RELAXED;
    dkim_canon_t body =
        strcmp(slash ? slash + 1 : canon, "simple") == 0 ? DKIM_CANON_SIMPLE : DKIM_CANON_RELAXED;
    DKIM *dkim = dkim_sign(library, (const u_char *)"job", NULL, (u_char *)key.bytes,
                           (const u_char *)selector, (const u_char *)domain, header, body,
                           ed25519 ? DKIM_SIGN_ED25519SHA256 : DKIM_SIGN_RSASHA256, -1, &status);
    if (!dkim)
        return status;
    status = feed(dkim, message);
    if (status == DKIM_STAT_OK)
        status = dkim_getsighdr(dkim, (u_char *)out, size, strlen("DKIM-Signature: "));
    dkim_free(dkim);
    return status;
}

/* ---- commands ---- */

static int verify(int count, char **arguments)
{
    DKIM_LIB *library = open_library();
    zone = read_file("", arguments[0]);
    for (int i = 1; i < count; i++) {
        const char *why;
        struct text message = read_file("", arguments[i]);
        DKIM_STAT status = verify_text(library, message, &why);
        printf("%s\t%s\t%s; %s\n", arguments[i],
               status == DKIM_STAT_OK      ? "pass"
               : status == DKIM_STAT_NOSIG ? "none"
                                           : "fail",
               dkim_getresultstr(status), why);
        free(message.bytes);
    }
    free(zone.bytes);
    dkim_close(library);
    return 0;
}

static bool is_ed25519(struct text key)
{
    return key.len < 400; /* PEM of 32 octets, against that of at least 1024 bits of RSA */
}

static void write_signed(const char *path, const char *field, struct text message)
{
    char name[4096];
    snprintf(name, sizeof name, "%s.signed", path);
    FILE *file = fopen(name, "we");
    if (!file || fprintf(file, "DKIM-Signature: %s\r\n", field) < 0 ||
        fwrite(message.bytes, 1, message.len, file) != message.len || fclose(file) != 0)
        die(name);
}

static int sign(int count, char **arguments)
{
    DKIM_LIB *library = open_library();
    struct text key = read_file("", arguments[2]);
    for (int i = 4; i < count; i++) {
        char field[RECORD_MAX];
        struct text message = read_file("", arguments[i]);
        DKIM_STAT status = sign_text(library, message, arguments[0], arguments[1], key,
                                     arguments[3], is_ed25519(key), field, sizeof field);
        if (status == DKIM_STAT_OK)
            write_signed(arguments[i], field, message);
        else
            printf("%s\t%s\n", arguments[i], dkim_getresultstr(status));
        free(message.bytes);
    }
    free(key.bytes);
    dkim_close(library);
    return 0;
}

/* ---- bench ---- */

static double cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void bench_kind(DKIM_LIB *library, const char *folder, const char *kind,
                       const char *selector)
{
    char name[64], field[RECORD_MAX];
    const char *why;
    snprintf(name, sizeof name, "%s.pem", kind);
    struct text key = read_file(folder, name), message = read_file(folder, "message");
    snprintf(name, sizeof name, "message.%s", kind);
    struct text signed_message = read_file(folder, name);
    double sign_best = 1e9, verify_best = 1e9;
    for (int batch = 0; batch < BATCHES; batch++) {
        double start = cpu_us();
        for (int i = 0; i < BATCH; i++)
            if (sign_text(library, message, "example.org", selector, key, "relaxed/relaxed",
                          is_ed25519(key), field, sizeof field) != DKIM_STAT_OK)
                die("sign");
        double middle = cpu_us();
        for (int i = 0; i < BATCH; i++)
            if (verify_text(library, signed_message, &why) != DKIM_STAT_OK)
                die("verify");
        double end = cpu_us();
        sign_best = (middle - start) / BATCH < sign_best ? (middle - start) / BATCH : sign_best;
        verify_best = (end - middle) / BATCH < verify_best ? (end - middle) / BATCH : verify_best;
    }
    printf("sign %s\t%.1f\nverify %s\t%.1f\n", kind, sign_best, kind, verify_best);
    free(key.bytes);
    free(message.bytes);
    free(signed_message.bytes);
}

static int bench(const char *folder)
{
    DKIM_LIB *library = open_library();
    zone = read_file(folder, "zone");
    bench_kind(library, folder, "rsa", "rsa");
    if (dkim_libfeature(library, DKIM_FEATURE_ED25519))
        bench_kind(library, folder, "ed25519", "ed25519");
    free(zone.bytes);
    dkim_close(library);
    return 0;
}

int main(int count, char **arguments)
{
    if (count > 3 && strcmp(arguments[1], "verify") == 0)
        return verify(count - 2, arguments + 2);
    if (count > 6 && strcmp(arguments[1], "sign") == 0)
        return sign(count - 2, arguments + 2);
    if (count == 3 && strcmp(arguments[1], "bench") == 0)
        return bench(arguments[2]);
    fprintf(stderr, "usage: opendkim-tool verify ZONE FILE… | sign DOMAIN SELECTOR KEY "
                    "HEADER/BODY FILE… | bench FOLDER\n");
    return 2;
}
