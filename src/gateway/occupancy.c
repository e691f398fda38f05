/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/occupancy.h"

#include "base/check.h"
#include "base/map.h"
#include "base/memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct occupancy {
    pthread_mutex_t mutex;
    struct map counts; /* key -> uint64_t */
};

struct key {
    char chars[128];
    size_t len;
};

struct occupancy *occupancy_new(void)
{
    struct occupancy *occupancy = NEW(struct occupancy);
    pthread_mutex_init(&occupancy->mutex, NULL);
    map_init(&occupancy->counts);
    return occupancy;
}

void occupancy_free(struct occupancy *occupancy)
{
    if (!occupancy)
        return;
    size_t cursor = 0;
    struct str key;
    void *count;
    while (map_next(&occupancy->counts, &cursor, &key, &count))
        free(count);
    map_done(&occupancy->counts);
    pthread_mutex_destroy(&occupancy->mutex);
    free(occupancy);
}

/* What does not fit is cut off. */
static struct str join(struct key *key, struct str a, struct str b, struct str c)
{
    const struct str parts[] = {a, b, c};
    size_t len = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        struct str part = str_slice(parts[i], 0, sizeof key->chars - len);
        if (part.len)
            memcpy(key->chars + len, part.ptr, part.len);
        len += part.len;
    }
    return str_of(key->chars, len);
}

static struct str listener_key(struct key *key, struct str listener)
{
    return join(key, STR("l "), listener, STR_EMPTY);
}

static struct str client_key(struct key *key, struct str listener, const struct net_ip *client)
{
    struct net_network network = net_client_network(client);
    char client_part[2 + NET_IP_TEXT] = "c ";
    struct str text = net_ip_format(&network.ip, client_part + 2);
    return join(key, str_of(client_part, 2 + text.len), STR(" "), str_slice(listener, 0, 64));
}

static uint64_t count_of(struct occupancy *occupancy, struct str key)
{
    uint64_t *count = map_get(&occupancy->counts, key);
    return count ? *count : 0;
}

static void add(struct occupancy *occupancy, struct str key)
{
    uint64_t *count = map_get(&occupancy->counts, key);
    if (!count) {
        count = NEW(uint64_t);
        map_put(&occupancy->counts, key, count);
    }
    ++*count;
}

static void subtract(struct occupancy *occupancy, struct str key)
{
    uint64_t *count = map_get(&occupancy->counts, key);
    check(count && *count > 0);
    if (--*count == 0)
        free(map_remove(&occupancy->counts, key));
}

enum occupancy_answer occupancy_enter(struct occupancy *occupancy, struct str listener,
                                      const struct net_ip *client, int64_t max_sessions,
                                      int64_t max_per_client)
{
    struct key space[2];
    struct str of_listener = listener_key(&space[0], listener);
    struct str of_client = client_key(&space[1], listener, client);
    enum occupancy_answer answer = OCCUPANCY_OK;
    pthread_mutex_lock(&occupancy->mutex);
    if (max_sessions > 0 && count_of(occupancy, of_listener) >= (uint64_t)max_sessions) {
        answer = OCCUPANCY_LISTENER_FULL;
    } else if (max_per_client > 0 && count_of(occupancy, of_client) >= (uint64_t)max_per_client) {
        answer = OCCUPANCY_CLIENT_FULL;
    } else {
        add(occupancy, of_listener);
        add(occupancy, of_client);
    }
    pthread_mutex_unlock(&occupancy->mutex);
    return answer;
}

void occupancy_leave(struct occupancy *occupancy, struct str listener, const struct net_ip *client)
{
    struct key space[2];
    pthread_mutex_lock(&occupancy->mutex);
    subtract(occupancy, listener_key(&space[0], listener));
    subtract(occupancy, client_key(&space[1], listener, client));
    pthread_mutex_unlock(&occupancy->mutex);
}

uint64_t occupancy_sessions(struct occupancy *occupancy, struct str listener)
{
    struct key space;
    pthread_mutex_lock(&occupancy->mutex);
    uint64_t count = count_of(occupancy, listener_key(&space, listener));
    pthread_mutex_unlock(&occupancy->mutex);
    return count;
}
