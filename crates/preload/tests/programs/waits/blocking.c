/* Calls each interposed function so that it succeeds, fails, times out or is interrupted, and writes its result and errno to a
 * file. The files of runs with and without the library must be the same. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static FILE *out;

#define CHECK(call)                                            \
    do {                                                       \
        errno = 77;                                            \
        long result = (long)(call);                            \
        int number = errno;                                    \
        fprintf(out, "%s = %ld, %d\n", #call, result, number); \
    } while (0)
/* The same, with signals that interrupt the call. They are repeated, in case the first one arrives before the call. */
#define INTERRUPTED(call) \
    do {                  \
        timer(20000);     \
        CHECK(call);      \
        timer(0);         \
    } while (0)

static void nothing(int number) { (void)number; }

static void timer(int microseconds) {
    struct itimerval value = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &value, 0);
}

static struct timespec *soon(clockid_t clock) {
    static struct timespec time;
    clock_gettime(clock, &time);
    time.tv_nsec += 10000000;
    if (time.tv_nsec >= 1000000000) {
        time.tv_nsec -= 1000000000;
        time.tv_sec++;
    }
    return &time;
}

static void *brief(void *value) {
    usleep(30000);
    return value;
}

static void *endless(void *value) {
    for (;;) pause();
    return value;
}

static int cleaned;
static void clean(void *unused) {
    (void)unused;
    cleaned++;
}

static int empty_pipe[2], waiting_way;
static sem_t never;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

/* Waits without end in one of several functions, until the thread is cancelled. */
static void *cancelled(void *unused) {
    char byte;
    (void)unused;
    pthread_cleanup_push(clean, 0);
    switch (waiting_way) {
    case 0: read(empty_pipe[0], &byte, 1); break;
    case 1: sem_wait(&never); break;
    case 2: poll(0, 0, -1); break;
    case 3: select(0, 0, 0, 0, 0); break;
    default:
        pthread_mutex_lock(&mutex);
        pthread_cleanup_push((void (*)(void *))pthread_mutex_unlock, &mutex);
        pthread_cond_wait(&condition, &mutex);
        pthread_cleanup_pop(1);
    }
    pthread_cleanup_pop(0);
    return 0;
}

static void cancel(void) {
    for (waiting_way = 0; waiting_way < 5; waiting_way++) {
        pthread_t thread;
        void *value = 0;
        pthread_create(&thread, 0, cancelled, 0);
        usleep(10000);
        CHECK(pthread_cancel(thread));
        CHECK(pthread_join(thread, &value));
        CHECK(value == PTHREAD_CANCELED);
    }
    CHECK(cleaned);
}

static void threads(void) {
    pthread_t thread;
    void *value = 0;
    sem_t semaphore;
    sem_init(&semaphore, 0, 2);
    sem_init(&never, 0, 0);
    CHECK(sem_wait(&semaphore));
    CHECK(sem_timedwait(&semaphore, soon(CLOCK_REALTIME)));
    CHECK(sem_timedwait(&semaphore, soon(CLOCK_REALTIME)));
    CHECK(sem_clockwait(&semaphore, CLOCK_MONOTONIC, soon(CLOCK_MONOTONIC)));
    INTERRUPTED(sem_wait(&semaphore));
    pthread_mutex_lock(&mutex);
    CHECK(pthread_cond_timedwait(&condition, &mutex, soon(CLOCK_REALTIME)));
    CHECK(pthread_cond_clockwait(&condition, &mutex, CLOCK_MONOTONIC, soon(CLOCK_MONOTONIC)));
    CHECK(pthread_cond_clockwait(&condition, &mutex, 99, soon(CLOCK_MONOTONIC)));
    pthread_mutex_unlock(&mutex);
    pthread_create(&thread, 0, brief, &thread);
    CHECK(pthread_join(thread, &value));
    CHECK(value == &thread);
    pthread_create(&thread, 0, endless, 0);
    CHECK(pthread_timedjoin_np(thread, &value, soon(CLOCK_REALTIME)));
    CHECK(pthread_clockjoin_np(thread, &value, CLOCK_MONOTONIC, soon(CLOCK_MONOTONIC)));
    pthread_cancel(thread);
    CHECK(pthread_join(thread, &value));
    CHECK(pthread_join(pthread_self(), &value));
}

static void sleeps(void) {
    struct timespec time = {0, 2000000}, wrong = {0, -1}, rest = {0, 0}, hour = {3600, 0};
    CHECK(nanosleep(&time, &rest));
    CHECK(nanosleep(&wrong, 0));
    INTERRUPTED(nanosleep(&hour, &rest));
    CHECK(rest.tv_sec > 3500);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &time, 0));
    CHECK(clock_nanosleep(99, 0, &time, 0));
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, soon(CLOCK_MONOTONIC), 0));
    INTERRUPTED(clock_nanosleep(CLOCK_MONOTONIC, 0, &hour, &rest));
    CHECK(usleep(1000));
    INTERRUPTED(usleep(900000));
    CHECK(sleep(0));
    INTERRUPTED(sleep(3600) > 3500);
}

static void events(void) {
    struct timespec time = {0, 2000000};
    struct timeval value = {0, 2000};
    struct epoll_event event = {.events = EPOLLIN};
    int both[2], set = epoll_create1(0);
    pipe(both);
    struct pollfd one = {both[0], POLLIN, 0}, full = {both[1], POLLOUT, 0};
    fd_set descriptors;
    CHECK(poll(&one, 1, 2));
    CHECK(poll(&full, 1, -1));
    CHECK(full.revents);
    CHECK(poll(0, 0, 2));
    CHECK(poll((void *)8, 1, 0));
    INTERRUPTED(poll(&one, 1, -1));
    CHECK(ppoll(&one, 1, &time, 0));
    INTERRUPTED(ppoll(&one, 1, 0, 0));
    CHECK(select(0, 0, 0, 0, &value));
    FD_ZERO(&descriptors);
    FD_SET(both[1], &descriptors);
    CHECK(select(both[1] + 1, 0, &descriptors, 0, 0));
    CHECK(FD_ISSET(both[1], &descriptors) != 0);
    CHECK(select(-1, 0, 0, 0, &value));
    FD_ZERO(&descriptors);
    FD_SET(both[0], &descriptors);
    INTERRUPTED(select(both[0] + 1, &descriptors, 0, 0, 0));
    CHECK(pselect(0, 0, 0, 0, &time, 0));
    epoll_ctl(set, EPOLL_CTL_ADD, both[0], &event);
    CHECK(epoll_wait(set, &event, 1, 2));
    CHECK(epoll_wait(-1, &event, 1, 2));
    CHECK(epoll_wait(set, &event, 0, 2));
    INTERRUPTED(epoll_wait(set, &event, 1, -1));
    CHECK(epoll_pwait(set, &event, 1, 2, 0));
    CHECK(epoll_pwait2(set, &event, 1, &time, 0));
    write(both[1], "x", 1);
    CHECK(epoll_wait(set, &event, 1, -1));
    close(set), close(both[0]), close(both[1]);
}

static void descriptors(const char *path) {
    char bytes[16] = "", name[1024];
    int both[2], pair[2], file;
    struct iovec vector = {bytes, 4};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    struct mmsghdr messages = {message, 0};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *found = 0;
    off_t at = 0;
    pipe(both), pipe(empty_pipe), socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    CHECK(write(both[1], "abcdefgh", 8));
    CHECK(read(both[0], bytes, 4));
    CHECK(readv(both[0], &vector, 1));
    CHECK(read(-1, bytes, 1));
    CHECK(read(both[0], bytes, 0));
    CHECK(write(-1, bytes, 1));
    CHECK(readv(both[0], &vector, -1));
    CHECK(writev(both[1], &vector, 1));
    INTERRUPTED(read(empty_pipe[0], bytes, 1));
    CHECK(memcmp(bytes, "efgh", 4));
    CHECK(send(pair[0], "1234567890123456", 16, 0));
    CHECK(recv(pair[1], bytes, 4, 0));
    CHECK(recvfrom(pair[1], bytes, 4, 0, 0, 0));
    CHECK(recvmsg(pair[1], &message, 0));
    CHECK(recvmmsg(pair[1], &messages, 1, 0, 0));
    CHECK(recv(pair[1], bytes, 4, MSG_DONTWAIT));
    CHECK(recv(both[0], bytes, 4, 0));
    INTERRUPTED(recv(pair[1], bytes, 4, 0));
    INTERRUPTED(recvfrom(pair[1], bytes, 4, 0, 0, 0));
    CHECK(sendto(pair[0], "x", 1, 0, 0, 0));
    CHECK(sendmsg(pair[0], &message, 0));
    CHECK(sendmmsg(pair[0], &messages, 1, 0));
    CHECK(send(both[1], "x", 1, MSG_NOSIGNAL));
    CHECK(accept(both[0], 0, 0));
    CHECK(accept4(pair[0], 0, 0, 0));
    CHECK(connect(both[0], (struct sockaddr *)&address, sizeof address));
    CHECK(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address));
    CHECK(getaddrinfo("127.0.0.1", "80", &hints, &found));
    CHECK(found != 0);
    CHECK(getaddrinfo("no number", "80", &hints, &found));
    snprintf(name, sizeof name, "%s.data", path);
    file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(pwrite(file, "abcdef", 6, 2) + file * 0);
    CHECK(pread(file, bytes, 6, 2) + file * 0);
    CHECK(pread64(file, bytes, 6, -1));
    CHECK(pwritev(file, &vector, 1, 0));
    CHECK(preadv(file, &vector, 1, 0));
    CHECK(preadv2(file, &vector, 1, 0, 0));
    CHECK(pwritev2(file, &vector, 1, 0, 0));
    CHECK(sendfile(both[1], file, &at, 3));
    CHECK(at);
    CHECK(copy_file_range(-1, 0, file, 0, 3, 0));
    CHECK(splice(both[0], 0, -1, 0, 3, 0));
    CHECK(fsync(file));
    CHECK(fsync(-1));
    CHECK(fdatasync(file));
    CHECK(fdatasync(both[0]));
    CHECK(syncfs(-1));
    CHECK(flock(file, LOCK_EX));
    int other = open(name, O_RDWR);
    CHECK(flock(other, LOCK_EX | LOCK_NB));
    INTERRUPTED(flock(other, LOCK_EX));
    CHECK(lockf(file, F_LOCK, 1));
    struct flock lock = {.l_type = F_WRLCK, .l_len = 1};
    CHECK(fcntl(file, F_SETLKW, &lock));
    lock.l_pid = 0;
    CHECK(fcntl(other, F_OFD_SETLK, &lock));
    INTERRUPTED(fcntl(other, F_OFD_SETLKW, &lock));
    CHECK(fcntl(file, F_GETFL) & O_RDWR);
    CHECK(fcntl(-1, F_GETFD));
    unlink(name);
}

/* Starts a child that ends at once, or that waits until it is killed. */
static pid_t child(int status, int lives) {
    pid_t pid = fork();
    if (pid == 0) {
        while (lives) pause();
        _exit(status);
    }
    return pid;
}

static void children(void) {
    int status = 0;
    siginfo_t info;
    pid_t pid = child(3, 0);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WEXITSTATUS(status));
    CHECK(waitpid(pid, &status, 0));
    pid = child(4, 0);
    CHECK(wait(&status) == pid);
    CHECK(WEXITSTATUS(status));
    pid = child(5, 0);
    CHECK(wait4(pid, &status, 0, 0) == pid);
    pid = child(6, 0);
    CHECK(wait3(&status, 0, 0) == pid);
    pid = child(7, 1);
    CHECK(waitpid(pid, &status, WNOHANG));
    INTERRUPTED(waitpid(pid, &status, 0));
    kill(pid, SIGKILL);
    CHECK(waitid(P_PID, pid, &info, WEXITED));
    CHECK(info.si_status);
    CHECK(waitid(P_PID, pid, &info, WEXITED));
    CHECK(wait(0));
    CHECK(WEXITSTATUS(system("exit 9")));
}

/* A signal handler that makes a call while another call is interrupted. */
static int in_handler[2];
static void writes(int number) {
    (void)number;
    int kept = errno;
    write(in_handler[1], "x", 1);
    errno = kept;
}

static void handlers(void) {
    char byte;
    struct sigaction action = {.sa_handler = writes, .sa_flags = SA_RESTART};
    pipe(in_handler);
    sigaction(SIGALRM, &action, 0);
    INTERRUPTED(read(in_handler[0], &byte, 1));
    CHECK(byte);
}

int run(const char *path) {
    struct sigaction action = {.sa_handler = nothing};
    out = fopen(path, "w");
    if (!out) return 1;
    sigaction(SIGALRM, &action, 0);
    threads();
    sleeps();
    events();
    descriptors(path);
    children();
    cancel();
    handlers();
    return fclose(out);
}

int main(int count, char **arguments) { return count == 2 ? run(arguments[1]) : 2; }
