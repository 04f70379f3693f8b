// What the parts of decode_sdapi share; callers use sdapi_request.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "service/api/sdapi_request.h"
#include "service/api/tolerant_reader.h"

namespace darkroom {

// The request while it is read.
struct SdapiDraft {
  SdapiKind kind;
  const SdapiContext& context;
  GenerationSpec spec;
  std::vector<std::string> warnings;
  std::vector<Complaint> complaints;
  std::size_t not_found = 0;  // of the complaints; where all are, the error is
  int pictures = 1;
  std::string sampler_name;
  std::string schedule;

  void warn(std::string warning) { warnings.push_back(std::move(warning)); }
};

// A model by any of its names, as its file; "" and a complaint where there is none.
std::string find_model(SdapiDraft& draft, const TolerantReader& in, std::string_view key, ModelRole role,
                       std::string_view wanted);

// "", "None", "none": nothing is meant.
bool is_none(std::string_view name);

void read_sampler(SdapiDraft& draft, const TolerantReader& in);
void read_picture_fields(SdapiDraft& draft, const TolerantReader& in);  // img2img's
void read_hires(SdapiDraft& draft, const TolerantReader& in);
void read_scripts(SdapiDraft& draft, const TolerantReader& in);  // alwayson_scripts and script_name
void read_upscaler(SdapiDraft& draft, const TolerantReader& in, std::string_view key, std::string_view name,
                   std::string& out);
// A picture under a key; answers whether it is there and right.
bool read_picture(SdapiDraft& draft, const TolerantReader& in, std::string_view key, const nlohmann::json& value,
                  ImageSource& out);

// The refusal that the complaints make.
Refusal refusal_of(SdapiDraft& draft);

}  // namespace darkroom
