/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/explain_transport.c - the way out, printed. */
#include "ctl/explain.h"

#include <stdio.h>

static void print_hosts(json_t *hosts)
{
    size_t i, k;
    json_t *host, *address;
    json_array_foreach(hosts, i, host)
    {
        printf("             %5lld ", ctl_number(host, "preference"));
        ctl_print_text(ctl_text(host, "host"));
        json_array_foreach(json_object_get(host, "addresses"), k, address)
        {
            printf(" %s", json_string_value(address));
        }
        if (ctl_text(host, "error")[0])
            printf("  %s", ctl_text(host, "error"));
        else if (k == 0)
            printf("  has no address");
        printf("\n");
    }
}

void explain_print_transport(json_t *transport, const char *title)
{
    printf("%s %s (%s)\n  next hop   ", title, ctl_text(transport, "name"),
           ctl_text(transport, "method"));
    ctl_print_text(ctl_text(transport, "next_hop"));
    printf("\n");
    print_hosts(json_object_get(transport, "hosts"));
    if (ctl_text(transport, "error")[0])
        printf("             %s\n", ctl_text(transport, "error"));
    if (ctl_text(transport, "tls")[0])
        printf("  TLS        %s\n", ctl_text(transport, "tls"));
    if (ctl_text(transport, "retry")[0])
        printf("  retries    %s; gives up %s after the first attempt\n",
               ctl_text(transport, "retry"), ctl_text(transport, "give_up_after"));
}
