/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/certificates.c - the certificates of the listeners: when they end, and that somebody is
 * told in time.
 */
#include "gateway/operations.h"

#include "base/clock.h"
#include "event/event.h"
#include "gateway/settings.h"
#include "gateway/worker.h"
#include "net/tls.h"

enum { EXPIRING_DAYS = 14, DAY_S = 86400 };

static bool is_there(const struct gateway_certificate *list, size_t count, struct str name)
{
    for (size_t i = 0; i < count; i++)
        if (str_equal(list[i].name, name))
            return true;
    return false;
}

struct gateway_certificate *gateway_certificates(struct gateway *gateway, struct arena *arena,
                                                 size_t *out_count)
{
    struct settings *settings = gateway_settings_ref(gateway);
    struct gateway_certificate *list = NULL;
    size_t count = 0, cap = 0;
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct tls_context *context = settings->listeners[i].smtp.tls_context;
        struct tls_certificate_end *ends;
        size_t end_count = context ? tls_context_ends(context, arena, &ends) : 0;
        if (count + end_count > cap) {
            cap = 2 * (count + end_count);
            struct gateway_certificate *more = arena_alloc_array(arena, cap, sizeof *more);
            for (size_t k = 0; k < count; k++)
                more[k] = list[k];
            list = more;
        }
        for (size_t k = 0; k < end_count; k++)
            if (!is_there(list, count, ends[k].name))
                list[count++] =
                    (struct gateway_certificate){ends[k].name, ends[k].file, ends[k].ends_at_s};
    }
    settings_unref(settings);
    *out_count = count;
    return list;
}

/* Once a day: what was told is remembered as days left, and one more for those that have ended. */
static void tell(struct gateway *gateway, const struct gateway_certificate *certificate)
{
    char text[TIME_RFC3339_SIZE];
    int64_t left_s = certificate->ends_at_s - clock_wall_ns() / NS_PER_S;
    if (left_s >= EXPIRING_DAYS * DAY_S) {
        (void)map_remove(&gateway->expiring, certificate->name);
        return;
    }
    intptr_t days = left_s < 0 ? (intptr_t)(left_s / DAY_S) - 1 : (intptr_t)(left_s / DAY_S) + 1;
    if (map_put(&gateway->expiring, certificate->name, (void *)days) == (void *)days) // NOLINT
        return;
    event_emit(EVENT_CERTIFICATE_EXPIRING, F_STR(OBJECT, certificate->name),
               F_STR(FILE, certificate->file),
               F_STR(EXPIRES, clock_format_rfc3339(certificate->ends_at_s * NS_PER_S, text)));
}

void gateway_tell_expiring(struct gateway *gateway)
{
    struct arena *arena = arena_new(0);
    size_t count;
    struct gateway_certificate *list = gateway_certificates(gateway, arena, &count);
    for (size_t i = 0; i < count; i++)
        tell(gateway, &list[i]);
    arena_free(arena);
}
