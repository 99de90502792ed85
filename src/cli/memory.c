/* How much memory the process can still have: what the kernel calls available, or less where a control group has a limit.
 * Sources: proc_meminfo(5), and the kernel's documents on cgroup v1 (memory) and v2. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The number behind `name` at the start of a line, or the file's first line alone where name is "". */
static bool read_number(const char *path, const char *name, uint64_t *out) {
    FILE *file = fopen(path, "re");
    char line[256];
    size_t len = strlen(name);
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        if (strncmp(line, name, len) != 0) continue;
        const char *at = line + len + strspn(line + len, ": ");
        char *end;
        *out = strtoull(at, &end, 10);
        found = end != at;
    }
    if (file) fclose(file);
    return found;
}

/* Where the two versions keep what. */
typedef struct hierarchy {
    const char *controllers; /* in /proc/self/cgroup */
    const char *root, *limit, *usage;
    const char *cached[2]; /* lines of memory.stat: what the kernel takes back when it must */
} hierarchy;

static const hierarchy hierarchies[] = {
    {"", "/sys/fs/cgroup", "memory.max", "memory.current", {"inactive_file ", "active_file "}},
    {"memory",
     "/sys/fs/cgroup/memory",
     "memory.limit_in_bytes",
     "memory.usage_in_bytes",
     {"total_inactive_file ", "total_active_file "}},
};

static bool read_in(const hierarchy *h, const char *group, const char *file, const char *name, uint64_t *out) {
    char path[512];
    snprintf(path, sizeof path, "%s%s/%s", h->root, group, file);
    return read_number(path, name, out);
}

/* *available becomes what the group leaves, if that is less. */
static void take_group(const hierarchy *h, const char *group, uint64_t *available) {
    uint64_t limit, used, cached = 0, part;
    if (!read_in(h, group, h->limit, "", &limit) || !read_in(h, group, h->usage, "", &used)) return;
    for (size_t i = 0; i < 2; i++)
        if (read_in(h, group, "memory.stat", h->cached[i], &part)) cached += part;
    used = used > cached ? used - cached : 0;
    uint64_t left = limit > used ? limit - used : 0;
    if (left < *available) *available = left;
}

/* The group and those that it lies in. One that is hidden in a container has no folder; the outermost that is seen has. */
static void take_groups(const hierarchy *h, char *group, uint64_t *available) {
    for (char *slash = group + strlen(group); slash; slash = strrchr(group, '/')) {
        *slash = '\0';
        take_group(h, group, available);
    }
}

uint64_t cli_memory_available(void) {
    uint64_t available;
    char line[512];
    if (!read_number("/proc/meminfo", "MemAvailable", &available)) return UINT64_MAX;
    available *= 1024;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && fgets(line, sizeof line, file)) { /* number:controllers:group */
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *controllers++ = *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        for (size_t i = 0; i < sizeof hierarchies / sizeof *hierarchies; i++)
            if (strcmp(controllers, hierarchies[i].controllers) == 0) take_groups(&hierarchies[i], group, &available);
    }
    if (file) fclose(file);
    return available;
}
