// Plays a client's case file: its steps in the client's own order.
//   method, path            with ${name} in it; one at its beginning is a whole URL
//   headers, open_headers   the latter only where no key is needed
//   body                    JSON; ${name} in its texts is replaced, a text that is only that by the saved value itself
//   form                    instead: [{"name", "value", "filename", "type"}]; chunked: sent without a length
//   pad_to                  bytes that the body is brought to, by a field that nobody knows
//   key_header              how this step carries the key ("api-key"); without_key: not at all; basic: as "user" or
//                           "password" of basic authorization
//   begin                   a name: the answer is not waited for. A later step has the name as await, and what is
//                           expected, or as hang_up, which drops the connection
//   until                   true: again and again, until all is as expected
//   expect                  status; json: constraints of the body; headers: of these, by "/Name"; picture: the body's
//                           format; last_event and event_json: of the last named event of a stream; done: false where
//                           that has no [DONE] at its end
//   save                    {"name": "/pointer"} into the answer, for later steps
// ${png} is a small PNG in base64, ${png_bytes} the same as it is.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/contract/runner/description.h"

namespace darkroom::contract {

struct Place {
  std::uint16_t port = 0;
  std::string prefix;  // of all paths; "": none
  std::string key;     // "": the service is open
};

struct Played {
  std::string step;  // "generate"
  std::string call;  // "POST /sdapi/v1/txt2img"
  Exchanged exchanged;
  std::vector<std::string> troubles;
};

std::vector<Played> play(const nlohmann::json& client, const Place& place);

}  // namespace darkroom::contract
