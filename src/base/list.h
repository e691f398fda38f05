/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/list.h - intrusive doubly linked list: the links live in the objects, so joining and
 * leaving cost no allocation and cannot fail.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next;
    struct list *prev;
};

/* The object whose `member` is at `link`. */
#define CONTAINER(link, type, member) ((type *)((char *)(link)-offsetof(type, member)))

/* Walk the list at `head`; `link` may be removed inside the loop. */
#define LIST_EACH(head, link)                                                                      \
    for (struct list *link = (head)->next, *link##_next = link->next; link != (head);              \
         link = link##_next, link##_next = link->next)

static inline void list_init(struct list *list)
{
    list->next = list;
    list->prev = list;
}

static inline bool list_is_empty(const struct list *list)
{
    return list->next == list;
}

static inline void list_insert_before(struct list *at, struct list *item)
{
    item->next = at;
    item->prev = at->prev;
    at->prev->next = item;
    at->prev = item;
}

static inline void list_append(struct list *list, struct list *item)
{
    list_insert_before(list, item);
}

static inline void list_prepend(struct list *list, struct list *item)
{
    list_insert_before(list->next, item);
}

/* The item is an empty list of its own afterwards, so a second removal does no harm. */
static inline void list_remove(struct list *item)
{
    item->next->prev = item->prev;
    item->prev->next = item->next;
    list_init(item);
}

/* Take the first item off, or NULL. */
static inline struct list *list_shift(struct list *list)
{
    if (list_is_empty(list))
        return NULL;
    struct list *first = list->next;
    list_remove(first);
    return first;
}
