/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/login_smtp.c - is this password right, by asking a mail server with it.
 *
 * Only the server's own 235 is a yes, and only its own refusal of the credentials is a no.
 * Everything else, before or after, is an error.
 */
#include "directory/callout.h"
#include "directory/stated.h"

static void ask(struct directory *directory, const struct server *server, struct str login,
                struct str password, struct arena *arena, struct directory_answer *out) MAY_YIELD
{
    struct directory_backend *backend =
        directory_backend(directory->shared, server->name, /* ldap= */ false);
    struct smtp_client *client;
    struct mail_reply reply;
    struct error error;
    if (breaker_admit(&backend->logins, &error) != OK) {
        directory_answer_login(out, DIRECTORY_LOGIN_ERROR, arena, "%s", error.text);
        return;
    }
    int64_t begun_ns = clock_monotonic_ns();
    uint64_t about = 0;
    enum result result = callout_open(directory, server, /* for_login= */ true, &client, &error);
    if (result == OK) {
        about = hash_bytes(login) | 1;
        result = smtp_client_auth(client, login, password, &reply, &error);
        if (result == OK) {
            out->reply = mail_reply_copy(arena, &reply);
            smtp_client_quit(client);
        } else {
            smtp_client_abort(client); /* an exchange cut short is followed by no QUIT */
        }
    }
    if (result != OK && about && error.kind == ERROR_PERMANENT) {
        /* longer than any exchange can carry: not asked, so no fault of the server's */
        breaker_abandoned(&backend->logins);
        directory_answer_login(out, DIRECTORY_NO, arena, "%s", error.text);
        return;
    }
    breaker_settle(&backend->logins, begun_ns, about, result == OK ? NULL : &error);
    if (result != OK) {
        /* one that was too slow may have been so with everybody; one that hangs up looked at it */
        out->hung_up = about && (error.kind == ERROR_TEMPORARY || error.kind == ERROR_PROTOCOL);
        directory_answer_login(out, DIRECTORY_LOGIN_ERROR, arena, "%s", error.text);
        return;
    }
    struct str text = mail_reply_text(arena, &out->reply);
    directory_answer_login(out, callout_judge_login(&out->reply), arena, "AUTH: %.*s",
                           STR_ARG(text));
}

void directory_login_smtp(struct directory *directory, const struct server *server,
                          struct str login, struct str password, struct arena *arena,
                          struct directory_answer *out)
{
    if (directory->stated) {
        directory_stated_login(directory->stated, server->name, /* is_file= */ false, login,
                               password, arena, out);
        return;
    }
    *out = (struct directory_answer){.reply = {.text = STR_EMPTY}, .detail = STR_EMPTY};
    if (!password.len || !login.len || str_has_nul(login) || str_has_nul(password)) {
        directory_answer_login(out, DIRECTORY_NO, arena, "empty, or holds a NUL (RFC 4616)");
        return;
    }
    struct scope scope;
    scope_open(&scope, callout_deadline(server));
    ask(directory, server, login, password, arena, out);
    scope_close(&scope);
}
