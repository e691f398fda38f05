/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/api.c - requests to the daemon over its control socket, and mail by SMTP (libcurl's door). */
#include "base/buf.h"
#include "ctl/list.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RETRIES = 5, RETRY_US = 200000, PATH_MAX_BYTES = 64 * 1024 };
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

const char *ctl_path_with(struct ctl *ctl, const char *base, json_t *query)
{
    struct buf path BUF_CLEANUP;
    const char *name;
    json_t *value;
    char separator = '?';
    buf_init(&path, PATH_MAX_BYTES);
    buf_append(&path, str_c(base));
    json_object_foreach(query, name, value)
    {
        buf_printf(&path, "%c%s=%s", separator, name, ctl_url_text(ctl, json_string_value(value)));
        separator = '&';
    }
    return arena_c(ctl->arena, buf_str(&path));
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

/* What a refusal says of itself; its title only where it has no words. */
static void tell_problem(json_t *problem)
{
    const char *detail = ctl_text(problem, "detail");
    fprintf(stderr, "postern: %s\n", detail[0] ? detail : ctl_text(problem, "title"));
}

static int tell_no_daemon(struct ctl *ctl, CURLcode code, long os_errno)
{
    if (os_errno == EACCES || os_errno == EPERM) {
        fprintf(stderr,
                "postern: you may not use %s: ask as root, or be in the group of the socket\n",
                ctl->socket_path);
        return CTL_NOT_ALLOWED;
    }
    fprintf(stderr, "postern: no daemon at %s: %s (is posternd running? --socket names another)\n",
            ctl->socket_path, os_errno ? strerror((int)os_errno) : curl_easy_strerror(code));
    return CTL_NO_DAEMON;
}

static bool is_cut_off(CURLcode code)
{
    return code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR || code == CURLE_GOT_NOTHING;
}

/* What goes with a change stands in its query. */
static const char *change_path(struct ctl *ctl, const char *path)
{
    json_t *query = json_object();
    if (ctl->dry_run)
        json_object_set_new(query, "dry_run", json_string("true"));
    if (ctl->reason)
        json_object_set_new(query, "reason", json_string(ctl->reason));
    path = ctl_path_with(ctl, path, query);
    json_decref(query);
    return path;
}

int ctl_request(struct ctl *ctl, const char *method, const char *path, json_t *body,
                struct ctl_answer *out)
{
    struct buf text;
    buf_init(&text, ANSWER_MAX);
    long status = 0;
    long os_errno = 0;
    char *sent = body ? json_dumps(body, JSON_COMPACT) : NULL;
    if (strcmp(method, "GET") != 0)
        path = change_path(ctl, path);
    CURLcode code = perform(ctl, method, path, sent, &text, &status, &os_errno);
    /* a daemon short of threads closes without a word: a question may be asked again */
    for (int i = 0; i < RETRIES && is_cut_off(code) && strcmp(method, "GET") == 0; i++) {
        buf_clear(&text);
        usleep(RETRY_US);
        code = perform(ctl, method, path, sent, &text, &status, &os_errno);
    }
    free(sent);
    if (code != CURLE_OK) {
        buf_done(&text);
        return tell_no_daemon(ctl, code, os_errno);
    }
    *out = (struct ctl_answer){.status = status, .body = arena_str(ctl->arena, buf_str(&text))};
    buf_done(&text);
    out->json = json_loadb(out->body.ptr, out->body.len, 0, NULL);
    if (status >= 200 && status < 300)
        return CTL_YES;
    if (ctl->json && out->json)
        ctl_print(ctl, out->json);
    else
        tell_problem(out->json);
    json_decref(out->json);
    return exit_of_status(status);
}

void ctl_warn_of_loading(json_t *answer)
{
    if (json_is_true(json_object_get(answer, "loading")))
        fprintf(stderr, "postern: the queue is still being loaded: this is not all of it\n");
}

int ctl_show(struct ctl *ctl, const char *path, void (*print)(json_t *object))
{
    struct ctl_answer answer;
    int code = ctl_request(ctl, "GET", path, NULL, &answer);
    if (code)
        return code;
    if (ctl->json)
        ctl_print(ctl, answer.json);
    else
        print(answer.json);
    ctl_warn_of_loading(answer.json);
    json_decref(answer.json);
    return CTL_YES;
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
    long os_errno = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &os_errno);
    curl_easy_cleanup(curl);
    int end = CTL_YES;
    if (status >= 400) {
        json_t *problem = json_loadb(refusal.ptr, refusal.len, 0, NULL);
        tell_problem(problem);
        json_decref(problem);
        end = exit_of_status(status);
    } else if (status == 0) {
        end = tell_no_daemon(ctl, code, os_errno);
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
