/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/api.c - requests to the daemon over its control socket (libcurl), and how answers are shown.
 */
#include "base/buf.h"
#include "ctl/ctl.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RETRIES = 5, RETRY_US = 200000 };
enum { ANSWER_MAX = 600 * 1024 * 1024 };

static size_t collect(char *data, size_t size, size_t count, void *out)
{
    struct buf *buf = out;
    buf_append(buf, str_of(data, size * count));
    return buf->overflow ? 0 : size * count;
}

const char *ctl_url_text(struct ctl *ctl, const char *text)
{
    char *escaped = curl_easy_escape(NULL, text, 0);
    const char *copy = arena_c(ctl->arena, str_c(escaped));
    curl_free(escaped);
    return copy;
}

struct listening {
    bool (*take_piece)(struct str piece, void *arg);
    void *arg;
    CURL *curl;
    struct buf *refusal;
};

static size_t hear(char *data, size_t size, size_t count, void *context)
{
    struct listening *listening = context;
    long status = 0;
    struct str piece = str_of(data, size * count);
    curl_easy_getinfo(listening->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 400)
        return collect(data, size, count, listening->refusal);
    return listening->take_piece(piece, listening->arg) ? piece.len : 0;
}

static CURLcode perform(struct ctl *ctl, const char *method, const char *path, const char *body,
                        struct buf *out_body, long *out_status, long *out_errno)
{
    CURL *curl = curl_easy_init();
    if (!curl)
        return CURLE_FAILED_INIT;
    struct str url = arena_printf(ctl->arena, "http://postern%s", path);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, ctl->socket_path);
    curl_easy_setopt(curl, CURLOPT_URL, url.ptr);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, out_body);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    if (body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
    }
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    if (ctl->if_match)
        headers = curl_slist_append(
            headers, arena_printf(ctl->arena, "If-Match: \"%s\"", ctl->if_match).ptr);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, out_status);
    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, out_errno);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return code;
}

static int exit_of_status(long status)
{
    switch (status) {
    case 403:
        return CTL_NOT_ALLOWED;
    case 404:
        return CTL_NO;
    case 409:
    case 412:
        return CTL_CONFLICT;
    case 503:
        return CTL_TRY_AGAIN;
    default:
        return status >= 500 ? CTL_TRY_AGAIN : CTL_USAGE;
    }
}

static bool is_cut_off(CURLcode code)
{
    return code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR || code == CURLE_GOT_NOTHING;
}

int ctl_request(struct ctl *ctl, const char *method, const char *path, json_t *body,
                struct ctl_answer *out)
{
    struct buf text;
    buf_init(&text, ANSWER_MAX);
    long status = 0;
    long os_errno = 0;
    char *sent = body ? json_dumps(body, JSON_COMPACT) : NULL;
    CURLcode code = perform(ctl, method, path, sent, &text, &status, &os_errno);
    /* a daemon short of threads closes without a word: a question may be asked again */
    for (int i = 0; i < RETRIES && is_cut_off(code) && strcmp(method, "GET") == 0; i++) {
        buf_clear(&text);
        usleep(RETRY_US);
        code = perform(ctl, method, path, sent, &text, &status, &os_errno);
    }
    free(sent);
    if (code != CURLE_OK) {
        fprintf(stderr, "postern: no daemon at %s: %s\n", ctl->socket_path,
                os_errno ? strerror((int)os_errno) : curl_easy_strerror(code));
        buf_done(&text);
        return os_errno == EACCES ? CTL_NOT_ALLOWED : CTL_NO_DAEMON;
    }
    *out = (struct ctl_answer){.status = status, .body = arena_str(ctl->arena, buf_str(&text))};
    buf_done(&text);
    out->json = json_loadb(out->body.ptr, out->body.len, 0, NULL);
    if (status >= 200 && status < 300)
        return CTL_YES;
    if (ctl->json && out->json) {
        ctl_print_json(out->json);
    } else {
        fprintf(stderr, "postern: %s: %s\n", ctl_text(out->json, "title"),
                ctl_text(out->json, "detail"));
    }
    json_decref(out->json);
    return exit_of_status(status);
}

int ctl_listen(struct ctl *ctl, const char *path, bool (*take_piece)(struct str piece, void *arg),
               void *arg)
{
    struct buf refusal;
    buf_init(&refusal, 65536);
    long status = 0;
    CURL *curl = curl_easy_init();
    struct listening listening = {take_piece, arg, curl, &refusal};
    struct str url = arena_printf(ctl->arena, "http://postern%s", path);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, ctl->socket_path);
    curl_easy_setopt(curl, CURLOPT_URL, url.ptr);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, hear);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &listening);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    int end = CTL_YES;
    if (status >= 400) {
        json_t *problem = json_loadb(refusal.ptr, refusal.len, 0, NULL);
        fprintf(stderr, "postern: %s: %s\n", ctl_text(problem, "title"),
                ctl_text(problem, "detail"));
        json_decref(problem);
        end = exit_of_status(status);
    } else if (status == 0) {
        fprintf(stderr, "postern: no daemon at %s: %s\n", ctl->socket_path,
                curl_easy_strerror(code));
        end = CTL_NO_DAEMON;
    }
    buf_done(&refusal);
    return end;
}

/* ---- SMTP ---- */

static size_t give(char *out, size_t size, size_t count, void *context)
{
    struct str *rest = context;
    size_t length = size * count < rest->len ? size * count : rest->len;
    memcpy(out, rest->ptr, length);
    *rest = str_from(*rest, length);
    return length;
}

struct replies {
    char *last;
    size_t size;
};

static size_t keep_reply(char *data, size_t size, size_t count, void *context)
{
    struct replies *replies = context;
    struct str line = str_trim(str_of(data, size * count));
    if (replies->last[0] == '4' || replies->last[0] == '5')
        return size * count; /* what comes behind a refusal is good-bye */
    snprintf(replies->last, replies->size, "%.*s", STR_ARG(line));
    for (char *at = replies->last; *at; at++)
        if (*at < 32 || *at == 127)
            *at = '?';
    return size * count;
}

void ctl_smtp(struct ctl *ctl, const struct ctl_mail *mail, char *out_reply, size_t reply_size)
{
    struct replies replies = {out_reply, reply_size};
    struct str rest = mail->data;
    struct curl_slist *to = NULL;
    out_reply[0] = '\0';
    CURL *curl = curl_easy_init();
    if (!curl)
        return;
    for (size_t i = 0; i < mail->recipient_count; i++)
        to = curl_slist_append(to, arena_printf(ctl->arena, "<%s>", mail->recipients[i]).ptr);
    curl_easy_setopt(curl, CURLOPT_URL, arena_printf(ctl->arena, "smtp://%s", mail->server).ptr);
    curl_easy_setopt(curl, CURLOPT_MAIL_FROM, arena_printf(ctl->arena, "<%s>", mail->sender).ptr);
    curl_easy_setopt(curl, CURLOPT_MAIL_RCPT, to);
    curl_easy_setopt(curl, CURLOPT_READFUNCTION, give);
    curl_easy_setopt(curl, CURLOPT_READDATA, &rest);
    curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, keep_reply);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &replies);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    CURLcode code = curl_easy_perform(curl);
    replies.size = 0;     /* the reply to QUIT is no answer */
    if (code == CURLE_OK) /* curl has seen the 250 behind the data */
        snprintf(out_reply, reply_size, "250 taken");
    else if (out_reply[0] != '4' && out_reply[0] != '5')
        snprintf(out_reply, reply_size, "451 %s", curl_easy_strerror(code));
    curl_slist_free_all(to);
    curl_easy_cleanup(curl);
}

void ctl_print_json(json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII);
    /* DEL is ASCII, and JSON lets it stand; a terminal may not */
    for (const char *at = text ? text : ""; *at; at++) {
        if (*at == 127)
            fputs("\\u007f", stdout);
        else
            putchar(*at);
    }
    putchar('\n');
    free(text);
}

static bool shows_utf8(void)
{
    const char *names[] = {getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!names[i] || !names[i][0])
            continue;
        struct str name = str_c(names[i]);
        return str_ends_nocase(name, STR("utf-8")) || str_ends_nocase(name, STR("utf8"));
    }
    return false;
}

/* Letters as they are where the terminal can show them, never what it would obey. */
void ctl_print_text(const char *text)
{
    bool utf8 = shows_utf8();
    struct str rest = str_c(text);
    while (rest.len) {
        uint32_t point;
        size_t len = str_utf8(rest, &point);
        unsigned char first = (unsigned char)rest.ptr[0];
        bool plain = first >= 32 && first < 127;
        if (plain || (utf8 && len > 1 && !str_is_unsafe_point(point))) {
            len = plain ? 1 : len;
            fwrite(rest.ptr, 1, len, stdout);
        } else {
            len = 1;
            printf("\\x%02x", first);
        }
        rest = str_from(rest, len);
    }
}

void ctl_require_id(const char *text)
{
    struct str id = str_c(text);
    bool good = id.len > 0 && id.len <= 64;
    for (size_t i = 0; i < id.len && good; i++)
        good = ascii_is_alpha(id.ptr[i]) || ascii_is_digit(id.ptr[i]);
    if (good)
        return;
    fprintf(stderr, "postern: that is neither an id nor a ref: they are of letters and digits; "
                    "search with postern find\n");
    exit(CTL_USAGE);
}

const char *ctl_text(json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

long long ctl_number(json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}
