// webui's API: the lists, and the small routes that clients ask to see whether somebody is there.
#include <unistd.h>

#include "service/api/sdapi_lists.h"
#include "service/clients/inside.h"

namespace darkroom {
namespace {

using http::Cost;
using nlohmann::json;

void get(http::Router& router, std::string path, std::function<json()> make) {
  router.add({"GET", std::move(path), Scope::read, Cost::free,
              [make = std::move(make)](const http::Request&) -> http::Answer { return json_response(200, make()); }});
}

void post(http::Router& router, std::string path, std::function<json()> make) {
  router.add({"POST", std::move(path), Scope::generate, Cost::free,
              [make = std::move(make)](const http::Request&) -> http::Answer { return json_response(200, make()); }});
}

json memory_of(Clients& clients) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  MachineMemory memory{.total = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * page,
                       .free = static_cast<std::uint64_t>(::sysconf(_SC_AVPHYS_PAGES)) * page};
  for (const WorkerStats& worker : clients.jobs.stats().workers) memory.used_by_workers += worker.memory_used;
  return sdapi_memory(memory);
}

json queue_status(Clients& clients) {
  const JobsStats stats = clients.jobs.stats();
  int queued = 0;
  for (const auto& [priority, count] : stats.queued) queued += count;
  return {{"msg", "estimation"}, {"queue_size", queued}, {"rank", queued}, {"running", stats.running}};
}

}  // namespace

void add_sdapi_list_routes(http::Router& router, const std::shared_ptr<Clients>& clients) {
  // Who lists models wants to see what has come.
  const auto of_models = [&](const char* path, json (*make)(const ModelCatalog&)) {
    router.add({"GET", std::string("/sdapi/v1/") + path, Scope::read, Cost::free,
                [clients, make](const http::Request&) -> http::Answer {
                  const auto catalog = clients->models.fresh();
                  return catalog ? json_response(200, make(**catalog)) : sdapi_refusal({catalog.error(), {}});
                }});
  };
  of_models("sd-models", sdapi_models);
  of_models("sd-vae", sdapi_vaes);
  of_models("loras", sdapi_loras);
  of_models("embeddings", sdapi_embeddings);
  of_models("upscalers", sdapi_upscalers);

  const std::pair<const char*, json (*)()> kFixed[] = {{"samplers", sdapi_samplers},
                                                       {"schedulers", sdapi_schedulers},
                                                       {"latent-upscale-modes", sdapi_latent_upscale_modes},
                                                       {"scripts", sdapi_scripts},
                                                       {"script-info", sdapi_script_info},
                                                       {"cmd-flags", sdapi_cmd_flags}};
  for (const auto& [path, make] : kFixed) get(router, std::string("/sdapi/v1/") + path, make);
  for (const char* path : {"hypernetworks", "face-restorers", "realesrgan-models", "extensions", "prompt-styles"}) {
    get(router, std::string("/sdapi/v1/") + path, [] { return json::array(); });
  }
  get(router, "/sdapi/v1/memory", [clients] { return memory_of(*clients); });
  get(router, "/queue/status", [clients] { return queue_status(*clients); });

  for (const char* path : {"refresh-checkpoints", "refresh-vae", "refresh-loras", "refresh-embeddings"}) {
    post(router, std::string("/sdapi/v1/") + path, [clients] {
      static_cast<void>(clients->models.fresh());
      return json(nullptr);
    });
  }

  get(router, "/controlnet/version", [] { return json{{"version", 3}}; });
  get(router, "/controlnet/model_list", [clients] { return controlnet_models(*clients->models.known_or_none()); });
  get(router, "/controlnet/module_list", controlnet_modules);
  get(router, "/controlnet/control_types", [clients] { return controlnet_types(*clients->models.known_or_none()); });
  get(router, "/controlnet/settings", [clients] { return controlnet_settings(clients->desk.limits()); });
}

}  // namespace darkroom
