/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/quarantine_page.c - what is behind the link of a digest. GET shows the message and a form;
 * only POST releases, so that programs that follow links (scanners, previews) change nothing.
 */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/quarantine_link.h"
#include "admin/quarantine_text.h"
#include "base/clock.h"
#include "event/event.h"
#include "gateway/operations.h"

enum { PAGE_MAX = 64 * 1024 };

static void say(struct admin_request *request, struct admin_answer *answer, unsigned status,
                struct str title, struct str text)
{
    struct buf page BUF_CLEANUP;
    buf_init(&page, PAGE_MAX);
    quarantine_page_write(title, text, &page);
    answer->status = status;
    answer->text = arena_str(request->arena, buf_str(&page));
    answer->type = "text/html; charset=utf-8";
}

static void refuse(struct admin_request *request, struct admin_answer *answer, const char *why)
{
    if (!request->access || admin_access_refusal(request->access))
        event_emit(EVENT_QUARANTINE_LINK_REFUSED, F_C(DETAIL, why));
    say(request, answer, 404, STR("This link is not valid"),
        STR("It may be incomplete, or too old. Ask your administrator for the message."));
}

/* Does its quarantine let recipients release, now? */
static bool is_allowed(struct admin_request *request, const struct quarantine_link *link)
{
    size_t count;
    struct gateway_quarantine *all = gateway_quarantines(request->gateway, request->arena, &count);
    for (size_t i = 0; i < count; i++)
        if (str_equal(all[i].name, link->quarantine))
            return all[i].by_recipient;
    return false;
}

static struct queue_selector selector_of(struct admin_request *request,
                                         const struct quarantine_link *link)
{
    return (struct queue_selector){
        .id = arena_str(request->arena, str_c(mail_id_text(link->message).chars)),
        .to = link->recipient,
        .quarantine = link->quarantine,
        .state = -1,
    };
}

static void say_gone(struct admin_request *request, struct admin_answer *answer)
{
    say(request, answer, 410, STR("It is no longer in quarantine"),
        STR("The message was released already, or it was removed."));
}

static void show(struct admin_request *request, const struct quarantine_link *link,
                 struct admin_answer *answer)
{
    struct queue_selector selector = selector_of(request, link);
    struct queue_list found = {0};
    struct error err;
    struct buf page BUF_CLEANUP;
    buf_init(&page, PAGE_MAX);
    if (queue_list(gateway_queue(request->gateway), &selector, request->arena, &found, &err) !=
        OK) {
        say(request, answer, 503, STR("Not now"), STR("Please try again in a minute."));
        return;
    }
    if (!found.count || !found.items[0].kept) {
        say_gone(request, answer);
        return;
    }
    quarantine_page_message(&found.items[0], link->recipient, &page);
    answer->text = arena_str(request->arena, buf_str(&page));
    answer->type = "text/html; charset=utf-8";
}

static void release(struct admin_request *request, const struct quarantine_link *link,
                    struct admin_answer *answer)
{
    struct queue_selector selector = selector_of(request, link);
    struct queue_action action = {
        .verb = QUEUE_RELEASE,
        .actor = arena_printf(request->arena, "recipient %.*s", STR_ARG(link->recipient)),
        .reason = STR("link of a digest"),
        .only_to = true,
    };
    struct queue_action_result result;
    struct error err;
    if (queue_act(gateway_queue(request->gateway), &selector, &action, &result, &err) != OK)
        say(request, answer, 503, STR("Not now"), STR("Please try again in a minute."));
    else if (result.done)
        say(request, answer, 200, STR("Released"),
            STR("The message goes on its way and should be in your mailbox soon."));
    else if (result.matched)
        say(request, answer, 503, STR("It cannot be released"),
            STR("Ask your administrator for the message."));
    else
        say_gone(request, answer);
}

void admin_quarantine_page(struct admin_request *request, struct str method, struct str token,
                           struct admin_answer *answer)
{
    struct quarantine_link link;
    bool posts = str_equal(method, STR("POST"));
    if (!posts && !str_equal(method, STR("GET")) && !str_equal(method, STR("HEAD"))) {
        say(request, answer, 405, STR("Not allowed"), STR("This is a page to be looked at."));
        return;
    }
    switch (quarantine_link_read(gateway_vault(request->gateway), token, clock_wall_ns(),
                                 request->arena, &link)) {
    case QUARANTINE_LINK_FORGED:
        refuse(request, answer, "it was not made here, or changed");
        return;
    case QUARANTINE_LINK_EXPIRED:
        refuse(request, answer, "it is too old");
        return;
    case QUARANTINE_LINK_VALID:
        break;
    }
    if (!is_allowed(request, &link))
        say(request, answer, 403, STR("Ask your administrator"),
            STR("Recipients cannot release messages from this quarantine."));
    else if (posts)
        release(request, &link, answer);
    else
        show(request, &link, answer);
}
