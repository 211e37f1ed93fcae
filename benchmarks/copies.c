/* Counts what a process copies in user space: memcpy and memmove of 4 KiB and more, by their bytes.
 *
 * Loaded by LD_PRELOAD; at its end each process adds one line to $COPIES_FILE. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static _Atomic unsigned long copied;

/* Byte loops instead of calls of the real functions, which are not known before the first copy is made; at -O3 the
 * compiler makes vectors of them. */
static void forward(char *restrict to, const char *restrict from, size_t size) {
    for (size_t i = 0; i < size; i++) to[i] = from[i];
}

static void count(size_t size) {
    if (size >= 4096) atomic_fetch_add_explicit(&copied, size, memory_order_relaxed);
}

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    count(size);
    forward(to, from, size);
    return to;
}

void *memmove(void *to, const void *from, size_t size) {
    count(size);
    if ((char *)to <= (const char *)from || (char *)to >= (const char *)from + size) {
        for (size_t i = 0; i < size; i++) ((char *)to)[i] = ((const char *)from)[i];
    } else {
        for (size_t i = size; i > 0; i--) ((char *)to)[i - 1] = ((const char *)from)[i - 1];
    }
    return to;
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("COPIES_FILE");
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    char line[64];
    if (file < 0) return;
    ssize_t written = write(file, line, snprintf(line, sizeof line, "%d %lu\n", getpid(), copied));
    (void)written;
    close(file);
}
