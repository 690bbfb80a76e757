#include "ha/lock.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

namespace ironcore::ha {
namespace {

class Lock : public ::testing::Test {
 protected:
  Lock() {
    char name[] = "/tmp/ironcore-lock-XXXXXX";
    directory = ::mkdtemp(name);
  }
  ~Lock() override { std::filesystem::remove_all(directory); }
  std::string path() const { return directory / "active.lock"; }

  std::filesystem::path directory;
};

TEST_F(Lock, OneHasItAtATime) {
  LockFile first(path()), second(path());
  EXPECT_TRUE(first.try_lock());
  EXPECT_TRUE(first.try_lock());
  EXPECT_FALSE(second.try_lock());
  first.release();
  EXPECT_TRUE(second.try_lock());
}

TEST_F(Lock, TheFileIsMadeForItsOwnerOnly) {
  const LockFile lock(path());
  struct stat status{};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(Lock, WhatCannotBeOpenedIsAnError) {
  EXPECT_THROW(LockFile((directory / "absent" / "lock").string()), std::system_error);
  EXPECT_THROW(LockFile(directory.string()), std::system_error);
}

}  // namespace
}  // namespace ironcore::ha
