/* Holds a pod's namespaces: waits for the end, and buries the processes that lost their parents. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int number) { _exit(number == SIGTERM || number == SIGINT ? 0 : 1); }

static void bury(int number) {
  (void)number;
  while (waitpid(-1, NULL, WNOHANG) > 0) {
  }
}

int main(void) {
  signal(SIGINT, leave);
  signal(SIGTERM, leave);
  signal(SIGCHLD, bury);
  for (;;) pause();
}
