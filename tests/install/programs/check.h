#pragma once

// What the programs check themselves with: no test framework crosses the package's border.

#include <lapidary/lapidary.h>

#include <iostream>
#include <string>

inline int failures = 0;

inline void expect(bool true_, const std::string& what) {
  if (true_) return;
  std::cout << "failed: " << what << std::endl;
  ++failures;
}

/// `body` must throw Error(code) with one line that has `part` in it.
template <class F>
void expect_error(lapidary::ErrorCode code, const std::string& part, F&& body) {
  try {
    body();
  } catch (const lapidary::Error& error) {
    const std::string text = error.what();
    expect(error.code() == code, "the code of: " + text);
    expect(text.find(part) != std::string::npos, "'" + part + "' in: " + text);
    expect(text.find('\n') == std::string::npos, "one line: " + text);
    return;
  }
  expect(false, "an error with '" + part + "'");
}
