/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/operations.h"

#include "event/event.h"
#include "gateway/incidents.h"
#include "gateway/mailboxes.h"
#include "gateway/settings.h"
#include "gateway/worker.h"
#include "net/dns.h"
#include "net/tls.h"
#include "spool/spool.h"

#include <limits.h>

struct queue *gateway_queue(struct gateway *gateway)
{
    return gateway->queue;
}

static void fill_listeners(struct gateway *gateway, const struct settings *settings,
                           struct arena *arena, struct gateway_status *out)
{
    out->listener_count = settings->listener_count;
    out->listeners =
        arena_alloc_array(arena, settings->listener_count, sizeof(struct gateway_listener_status));
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct settings_listener *from = &settings->listeners[i];
        struct gateway_listener_status *to = &out->listeners[i];
        to->name = arena_str(arena, from->name);
        to->address_count = from->address_count;
        to->addresses = arena_alloc_array(arena, from->address_count, sizeof(struct str));
        for (size_t k = 0; k < from->address_count; k++) {
            char text[NET_ADDRESS_TEXT];
            to->addresses[k] = arena_str(arena, net_address_format(&from->addresses[k], text));
        }
        to->sessions = occupancy_sessions(gateway->occupancy, from->name);
    }
}

static int certificate_days(const struct settings *settings)
{
    int days = INT_MAX;
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct tls_context *context = settings->listeners[i].smtp.tls_context;
        int left = context ? tls_context_days_left(context) : INT_MAX;
        days = left < days ? left : days;
    }
    return days;
}

void gateway_status(struct gateway *gateway, struct arena *arena, struct gateway_status *out)
{
    pthread_mutex_lock(&gateway->mutex);
    struct settings *settings = settings_ref(gateway->settings);
    int64_t applied_wall_ns = gateway->applied_wall_ns;
    pthread_mutex_unlock(&gateway->mutex);
    *out = (struct gateway_status){
        .draining = atomic_load(&gateway->draining),
        .delivery_paused = gateway->options.delivery_paused,
        .has_room = spool_has_room(gateway->spool),
        .hostname = arena_str(arena, settings->hostname),
        .revision = arena_printf(arena, "r%u", settings->revision),
        .config_path = arena_str(arena, gateway->options.config_path),
        .started_wall_ns = gateway->started_wall_ns,
        .applied_wall_ns = applied_wall_ns,
        .workers = gateway->worker_count,
        .sessions_total = atomic_load(&gateway->sessions_total),
        .messages_accepted = atomic_load(&gateway->messages_accepted),
        .protected_mailboxes = mailboxes_count(gateway->mailboxes),
        .incidents_open = incidents_open_count(gateway->incidents),
        .events_dropped = event_dropped(),
        .certificate_days_left = certificate_days(settings),
    };
    for (size_t i = 0; i < gateway->worker_count; i++)
        out->sessions_now += atomic_load(&gateway->workers[i].session_count);
    fill_listeners(gateway, settings, arena, out);
    settings_unref(settings);
}

void gateway_spool_numbers(struct gateway *gateway, struct gateway_spool_numbers *out)
{
    struct spool_stats stats = spool_stats(gateway->spool);
    *out = (struct gateway_spool_numbers){
        .has_room = spool_has_room(gateway->spool),
        .units = stats.units,
        .syncs = stats.syncs,
        .bytes_written = stats.bytes_written,
        .segments = stats.segments,
        .live_bytes = stats.live_bytes,
        .disk_bytes = stats.disk_bytes,
    };
}

struct gateway_worker_numbers *gateway_worker_numbers(struct gateway *gateway, struct arena *arena,
                                                      size_t *out_count)
{
    struct gateway_worker_numbers *numbers =
        arena_alloc_array(arena, gateway->worker_count, sizeof *numbers);
    for (size_t i = 0; i < gateway->worker_count; i++) {
        struct loop_stats stats = loop_stats(gateway->workers[i].loop);
        numbers[i] = (struct gateway_worker_numbers){
            .fibers = stats.fibers, .turns = stats.turns, .longest_turn_ns = stats.longest_turn_ns};
    }
    *out_count = gateway->worker_count;
    return numbers;
}

struct settings *gateway_settings_ref(struct gateway *gateway)
{
    pthread_mutex_lock(&gateway->mutex);
    struct settings *settings = settings_ref(gateway->settings);
    pthread_mutex_unlock(&gateway->mutex);
    return settings;
}

void gateway_dns_numbers(struct gateway *gateway, struct dns_numbers *out)
{
    *out = (struct dns_numbers){0};
    for (size_t i = 0; i < gateway->worker_count; i++) {
        if (gateway->workers[i].dns)
            dns_add_numbers(gateway->workers[i].dns, out);
    }
}

static void fill_transport(const struct transport *from, struct arena *arena,
                           struct gateway_transport *to)
{
    static const char *const methods[] = {[TRANSPORT_SERVER] = "server",
                                          [TRANSPORT_LOOKUP_MX] = "lookup-mx",
                                          [TRANSPORT_LMTP] = "lmtp",
                                          [TRANSPORT_DISCARD] = "discard"};
    *to = (struct gateway_transport){
        .name = arena_str(arena, from->name),
        .method = str_c(methods[from->method]),
        .server = arena_str(arena, from->server_name),
        .direction = str_c(transport_direction_name(from)),
        .limit_connections = from->limit_connections > 0 ? from->limit_connections : 20,
        .limit_count = from->limit_messages.count,
        .limit_period_ns = from->limit_messages.period_ns,
    };
}

struct gateway_transport *gateway_transports(struct gateway *gateway, struct arena *arena,
                                             size_t *out_count)
{
    pthread_mutex_lock(&gateway->mutex);
    struct settings *settings = settings_ref(gateway->settings);
    pthread_mutex_unlock(&gateway->mutex);
    struct gateway_transport *transports =
        arena_alloc_array(arena, settings->transport_count + 1, sizeof *transports);
    for (size_t i = 0; i < settings->transport_count; i++)
        fill_transport(&settings->transports[i], arena, &transports[i]);
    *out_count = settings->transport_count;
    settings_unref(settings);
    return transports;
}
