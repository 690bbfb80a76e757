// The file whose exclusive lock (flock(2)) makes a process the active one of its pair.
#pragma once

#include <string>

namespace ironcore::ha {

class LockFile {
 public:
  // Opens it, created with mode 0600 if absent; std::system_error.
  explicit LockFile(const std::string& path);
  ~LockFile() { release(); }
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  bool try_lock();  // false: another process has it; std::system_error
  void release();   // idempotent; closes the file

 private:
  int fd_;
};

}  // namespace ironcore::ha
