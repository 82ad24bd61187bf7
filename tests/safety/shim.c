/* Preloaded into a run, this library sees the calls of libc that change files of one folder, and can disturb one of them.

   A process arms it with `shim_arm`. From then on each call that creates, writes, syncs, closes, renames or removes a
   path below the folder is an event: an operation and a path relative to the folder (of a rename: the new one). Events
   are appended to a log. The nth event of a given operation whose path matches a pattern is the target:

   "before", "after"  the process is killed (SIGKILL) before or after the call;
   "during"           half of the bytes are written, then the process is killed;
   "error"            half of the bytes are written, and from then on calls fail with the given errno:
                      ENOSPC and EDQUOT: what needs space; EIO: writes and syncs; EROFS: all of them;
   "signal"           the process gets the signal of the given number before the call, which goes on.

   The log has a line for each event: the operation, the path, and "HIT" for the target. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { LOG, BEFORE, DURING, AFTER, ERROR, SIGNAL };

static char folder[PATH_MAX], operation[16], pattern[PATH_MAX];
static size_t folder_length; /* 0: not armed */
static long nth, matched;
static enum mode mode;
static int number, failing, log_file = -1;

void shim_arm(const char *dir, const char *log, const char *op, const char *match, long n, const char *how, int value) {
    static const char *names[] = {"log", "before", "during", "after", "error", "signal"};
    for (int i = LOG; i <= SIGNAL; i++)
        if (!strcmp(how, names[i])) mode = i;
    snprintf(operation, sizeof operation, "%s", op);
    snprintf(pattern, sizeof pattern, "%s", match);
    nth = n, matched = 0, failing = 0, number = value;
    int opened = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    log_file = fcntl(opened, F_DUPFD_CLOEXEC, 500);
    syscall(SYS_close, opened);
    snprintf(folder, sizeof folder, "%s/", dir);
    folder_length = strlen(folder);
}

static void end(void) {
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;) pause();
}

/* The path below the folder, or NULL. `at` is the folder of a relative path, or the descriptor itself if name is NULL. */
static const char *below(int at, const char *name, char *path) {
    if (!folder_length) return NULL;
    int saved = errno;
    if (name && name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
    } else {
        char link[40];
        snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
        ssize_t length = readlink(link, path, PATH_MAX - 1);
        if (length < 0) length = 0;
        path[length] = 0;
        if (name) snprintf(path + length, PATH_MAX - length, "/%s", name);
    }
    errno = saved;
    return strncmp(path, folder, folder_length) ? NULL : path + folder_length;
}

static int fails(const char *op) {
    int syncs = !strcmp(op, "fsync"), writes = !strcmp(op, "write");
    if (!strcmp(op, "close")) return 0;
    if (number == EROFS) return 1;
    if (number == EIO) return writes || syncs;
    return writes || !strcmp(op, "open") || !strcmp(op, "mkdir");
}

/* Notes an event. Returns 1 if it is the target, -1 if the call shall fail (errno is set), else 0. */
static int event(const char *op, const char *path) {
    char line[PATH_MAX + 40];
    int hit = mode != LOG && !failing && !strcmp(op, operation) && !fnmatch(pattern, path, 0) &&
              __atomic_add_fetch(&matched, 1, __ATOMIC_SEQ_CST) == nth;
    int length = snprintf(line, sizeof line, "%s\t%s%s\n", op, path, hit ? "\tHIT" : "");
    if (syscall(SYS_write, log_file, line, length) < 0) abort();
    if (hit && mode == BEFORE) end();
    if (hit && mode == SIGNAL) syscall(SYS_kill, syscall(SYS_getpid), number);
    if (hit && mode == ERROR) failing = 1;
    if (failing && fails(op) && !(hit && !strcmp(op, "write"))) {
        errno = number;
        return -1;
    }
    return hit;
}

static void done(int hit) {
    if (hit && mode < ERROR) end();
}

#define REAL(name, ...) (((__typeof__(&name))({ static void *f; if (!f) f = dlsym(RTLD_NEXT, #name); f; }))(__VA_ARGS__))
#define WATCH(op, at, name, call)                                    \
    char buffer[PATH_MAX * 2];                                       \
    const char *path = below(at, name, buffer);                      \
    int hit = path ? event(op, path) : 0;                            \
    if (hit < 0) return -1;                                          \
    __typeof__(call) result = call;                                  \
    done(hit);                                                       \
    return result

/* open: those that create, empty or write */
#define OPEN(function, at, name, flags, arguments...)                                          \
    mode_t permissions = 0;                                                                    \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                       \
        va_list list;                                                                          \
        va_start(list, flags);                                                                 \
        permissions = va_arg(list, mode_t);                                                    \
        va_end(list);                                                                          \
    }                                                                                          \
    if (!(flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR))) return REAL(function, arguments, permissions); \
    WATCH("open", at, name, REAL(function, arguments, permissions))

int open(const char *name, int flags, ...) { OPEN(open, AT_FDCWD, name, flags, name, flags); }
int open64(const char *name, int flags, ...) { OPEN(open64, AT_FDCWD, name, flags, name, flags); }
int openat(int at, const char *name, int flags, ...) { OPEN(openat, at, name, flags, at, name, flags); }
int openat64(int at, const char *name, int flags, ...) { OPEN(openat64, at, name, flags, at, name, flags); }

/* writes: the target's first half only, if it is disturbed during the call */
static size_t part(int hit, size_t count) { return hit && (mode == DURING || mode == ERROR) ? count / 2 : count; }

ssize_t write(int file, const void *bytes, size_t count) {
    WATCH("write", file, NULL, REAL(write, file, bytes, part(hit, count)));
}
ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
    WATCH("write", file, NULL, REAL(pwrite, file, bytes, part(hit, count), offset));
}
ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
    WATCH("write", file, NULL, REAL(pwrite64, file, bytes, part(hit, count), offset));
}
ssize_t writev(int file, const struct iovec *parts, int count) {
    struct iovec first = {parts[0].iov_base, parts[0].iov_len / 2};
    WATCH("write", file, NULL, part(hit, 2) == 1 ? REAL(writev, file, &first, 1) : REAL(writev, file, parts, count));
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t count) {
    WATCH("write", to, NULL, REAL(sendfile64, to, from, offset, part(hit, count)));
}
ssize_t sendfile(int to, int from, off_t *offset, size_t count) {
    WATCH("write", to, NULL, REAL(sendfile, to, from, offset, part(hit, count)));
}
ssize_t copy_file_range(int from, off64_t *start, int to, off64_t *offset, size_t count, unsigned int flags) {
    WATCH("write", to, NULL, REAL(copy_file_range, from, start, to, offset, part(hit, count), flags));
}
int ftruncate(int file, off_t length) { WATCH("write", file, NULL, REAL(ftruncate, file, length)); }
int ftruncate64(int file, off64_t length) { WATCH("write", file, NULL, REAL(ftruncate64, file, length)); }

int fsync(int file) { WATCH("fsync", file, NULL, REAL(fsync, file)); }
int fdatasync(int file) { WATCH("fsync", file, NULL, REAL(fdatasync, file)); }
int close(int file) {
    if (!folder_length || !(fcntl(file, F_GETFL) & (O_WRONLY | O_RDWR))) return REAL(close, file);
    WATCH("close", file, NULL, REAL(close, file));
}

int mkdir(const char *name, mode_t mode_) { WATCH("mkdir", AT_FDCWD, name, REAL(mkdir, name, mode_)); }
int mkdirat(int at, const char *name, mode_t mode_) { WATCH("mkdir", at, name, REAL(mkdirat, at, name, mode_)); }
int unlink(const char *name) { WATCH("unlink", AT_FDCWD, name, REAL(unlink, name)); }
int unlinkat(int at, const char *name, int flags) { WATCH("unlink", at, name, REAL(unlinkat, at, name, flags)); }
int rmdir(const char *name) { WATCH("unlink", AT_FDCWD, name, REAL(rmdir, name)); }
int rename(const char *old, const char *new) { WATCH("rename", AT_FDCWD, new, REAL(rename, old, new)); }
int renameat(int from, const char *old, int to, const char *new) {
    WATCH("rename", to, new, REAL(renameat, from, old, to, new));
}
int renameat2(int from, const char *old, int to, const char *new, unsigned int flags) {
    WATCH("rename", to, new, REAL(renameat2, from, old, to, new, flags));
}
