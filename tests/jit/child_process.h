#pragma once

#include <sys/wait.h>
#include <unistd.h>

namespace quire::test {

// Runs `body` in a copy of this process; true when it ended and returned true there.
template <class Body>
bool in_child(Body&& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body() ? 0 : 1);
  int status = -1;
  return waitpid(child, &status, 0) == child && status == 0;
}

}  // namespace quire::test
