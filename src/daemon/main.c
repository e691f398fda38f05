/* SPDX-License-Identifier: Apache-2.0 */
/* daemon/main.c - posternd: options, and on to the supervisor. */
#include "base/memory.h"
#include "crypto/wipe.h"
#include "daemon/check.h"
#include "daemon/supervisor.h"

#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

static void print_usage(FILE *out)
{
    fprintf(out, "usage: posternd --config FILE [--check] [--unconfined]\n"
                 "  --config FILE  the configuration; runs in the foreground until SIGTERM\n"
                 "  --check        only say what is wrong with it: exit 0 nothing, 1 errors\n"
                 "  --unconfined   for debugging: all paths and system calls stay open to it\n"
                 "  --version\n"
                 "SIGHUP reads the file again, SIGUSR1 opens the log file again.\n");
}

/* `postern` is told the path and looks at the file from wherever it is called. */
static const char *make_absolute(const char *path, char out[PATH_MAX])
{
    char folder[PATH_MAX];
    if (path[0] == '/' || !getcwd(folder, sizeof folder))
        return path;
    int length = snprintf(out, PATH_MAX, "%s/%s", folder, path);
    return length > 0 && length < PATH_MAX ? out : path;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"check", no_argument, NULL, 'k'},
        {"unconfined", no_argument, NULL, 'u'},   {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},         {0},
    };
    const char *path = NULL;
    bool check = false, unconfined = false;
    memory_tune();
    (void)crypto_wipe_freed();
    for (int found; (found = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        switch (found) {
        case 'c':
            path = optarg;
            break;
        case 'k':
            check = true;
            break;
        case 'u':
            unconfined = true;
            break;
        case 'V':
            printf("posternd %s\n", POSTERN_VERSION);
            return 0;
        case 'h':
            print_usage(stdout);
            return 0;
        default:
            print_usage(stderr);
            return 2;
        }
    }
    if (!path || optind != argc) {
        print_usage(stderr);
        return 2;
    }
    if (check)
        return check_configuration(path);
    char absolute[PATH_MAX];
    return supervisor_run(make_absolute(path, absolute), unconfined);
}
