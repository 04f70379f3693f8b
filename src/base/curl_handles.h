// libcurl's objects, owned. Who includes this links libcurl.
#pragma once

#include <memory>

#include <curl/curl.h>

#include "base/error.h"

namespace darkroom {

struct FreeCurl {
  void operator()(CURL* easy) const { ::curl_easy_cleanup(easy); }
  void operator()(curl_slist* list) const { ::curl_slist_free_all(list); }
  void operator()(char* text) const { ::curl_free(text); }
};
using CurlEasy = std::unique_ptr<CURL, FreeCurl>;
using CurlList = std::unique_ptr<curl_slist, FreeCurl>;
using CurlText = std::unique_ptr<char, FreeCurl>;

// Initialises libcurl once for the process.
inline void start_curl() {
  static const CURLcode started = ::curl_global_init(CURL_GLOBAL_DEFAULT);
  DR_ASSERT(started == CURLE_OK);
}

inline CurlEasy new_curl_easy() {
  start_curl();
  CurlEasy easy(::curl_easy_init());
  DR_ASSERT(easy != nullptr);
  return easy;
}

}  // namespace darkroom
