// webui's API: what generates, and what belongs to it: progress, interrupt, options.
#include <algorithm>
#include <ctime>

#include "service/api/sdapi_answers.h"
#include "service/api/sdapi_lists.h"
#include "service/clients/inside.h"

namespace darkroom {
namespace {

using http::Cost;
using nlohmann::json;

// webui's form: 20260131235959.
std::string job_timestamp() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm local{};
  localtime_r(&now, &local);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y%m%d%H%M%S", &local)};
}

SdapiActivity activity_of(const Work& work, const std::vector<GenerationRequest>& jobs, std::string timestamp) {
  SdapiActivity activity{.job_timestamp = std::move(timestamp)};
  for (std::size_t i = 0; i < work.jobs.size(); ++i) {
    activity.parts.push_back({work.jobs[i], jobs[i].spec.batch_size});
  }
  return activity;
}

// What came of txt2img or img2img. An interrupted request is answered with what there is, as webui does.
http::Response generated(Clients& clients, const Work& work, bool interrupted, const std::string& timestamp) {
  const auto& request = *static_cast<const SdapiRequest*>(work.what.get());
  const std::vector<JobView> views = views_of(clients.jobs, work);
  const auto failure = failure_of(views);
  const bool cut_short = interrupted && failure && failure->error.code == ErrorCode::cancelled;
  if (failure && !cut_short) return sdapi_refusal(*failure);
  std::vector<SdapiPicture> pictures;
  for (const JobView& view : views) {
    Result<std::vector<std::string>> files = read_pictures(clients.jobs, view);
    if (!files) return sdapi_refusal({files.error(), {}});
    for (std::size_t i = 0; i < files->size(); ++i) {
      const Picture& picture = view.pictures[i];
      pictures.push_back({std::move((*files)[i]), picture.seed, picture.width, picture.height});
    }
  }
  return json_response(200,
                       sdapi_answer(request, pictures, *clients.models.known_or_none(), warnings_of(views), timestamp));
}

// How pictures are answered that were made of others; with the warnings.
using PicturesAnswer = std::function<json(const std::vector<std::string>&, const std::vector<std::string>&)>;

http::Response reworked(Clients& clients, const Work& work, const PicturesAnswer& answer) {
  const std::vector<JobView> views = views_of(clients.jobs, work);
  if (const auto failure = failure_of(views)) return sdapi_refusal(*failure);
  std::vector<std::string> pictures;
  for (const JobView& view : views) {
    Result<std::vector<std::string>> files = read_pictures(clients.jobs, view);
    if (!files) return sdapi_refusal({files.error(), {}});
    pictures.insert(pictures.end(), std::make_move_iterator(files->begin()), std::make_move_iterator(files->end()));
  }
  return json_response(200, answer(pictures, warnings_of(views)));
}

using Respond = std::function<http::Response(bool interrupted, const std::string& timestamp)>;

// Waits for work with all that belongs to the caller while it goes on.
http::Answer wait_for(const std::shared_ptr<Clients>& clients, const http::Request& request, const Work& work,
                      SdapiActivity activity, Respond respond) {
  const std::string caller = caller_of(request);
  const std::string timestamp = activity.job_timestamp;
  const std::uint64_t number = clients->sessions.begin(caller, std::move(activity));
  return answer_later(clients->jobs, {.work = work,
                                      .deadline = clients->deadline(),
                                      .respond =
                                          [clients, caller, number, timestamp, respond = std::move(respond)] {
                                            const auto ended = clients->sessions.finish(caller, number);
                                            return respond(ended && ended->interrupted, timestamp);
                                          },
                                      .on_event =
                                          [clients, caller, number](const JobEvent& event) {
                                            if (event.kind == JobEventKind::preview)
                                              clients->sessions.set_preview(caller, number, event.preview);
                                          },
                                      .on_gone =
                                          [clients, caller, number, whose = Abandoned::owner_of(request), work] {
                                            clients->sessions.finish(caller, number);
                                            clients->abandoned.leave(whose, work);
                                          }});
}

http::Answer generate(SdapiKind kind, const std::shared_ptr<Clients>& clients, const http::Request& request) {
  const Result<json> body = sdapi_body(request);
  if (!body) return sdapi_refusal({body.error(), {}});
  std::optional<Work> work = clients->abandoned.take(clients->jobs, request);
  if (!work) {
    const auto known = clients->models.known();
    if (!known) return sdapi_refusal({known.error(), {}});
    const ModelCatalog& catalog = **known;
    const SdapiOptions options = clients->sessions.options(caller_of(request));
    auto decoded =
        decode_sdapi(kind, *body, {clients->desk.limits(), catalog, options, clients->default_model(catalog)});
    if (!decoded) return sdapi_refusal(decoded.error());
    const auto what = std::make_shared<const SdapiRequest>(std::move(*decoded));
    const char* word = kind == SdapiKind::txt2img ? "txt2img" : "img2img";
    auto submitted = submit(clients->desk, request, {word, what->jobs, what->echo});
    if (!submitted) return sdapi_problem(submitted.error());
    work = std::move(*submitted);
    work->what = what;
  }
  const auto& jobs = static_cast<const SdapiRequest*>(work->what.get())->jobs;
  return wait_for(clients, request, *work, activity_of(*work, jobs, job_timestamp()),
                  [clients, work = *work](bool interrupted, const std::string& timestamp) {
                    return generated(*clients, work, interrupted, timestamp);
                  });
}

// Pictures that are worked on as they are.
http::Answer rework(const std::shared_ptr<Clients>& clients, const http::Request& request, const char* kind,
                    const std::function<tl::expected<SdapiExtras, Refusal>(const json&, const SdapiContext&)>& decode,
                    PicturesAnswer answer) {
  const Result<json> body = sdapi_body(request);
  if (!body) return sdapi_refusal({body.error(), {}});
  const auto known = clients->models.known();
  if (!known) return sdapi_refusal({known.error(), {}});
  const SdapiOptions options = clients->sessions.options(caller_of(request));
  auto decoded = decode(*body, {clients->desk.limits(), **known, options, ""});
  if (!decoded) return sdapi_refusal(decoded.error());
  if (decoded->jobs.empty()) {
    std::vector<std::string> pictures;
    for (ImageSource& picture : decoded->pictures) pictures.push_back(std::move(picture.bytes));
    return json_response(200, answer(pictures, {}));
  }
  const std::vector<GenerationRequest> jobs = decoded->jobs;
  const auto work = submit(clients->desk, request, {kind, std::move(decoded->jobs), json::object()});
  if (!work) return sdapi_problem(work.error());
  return wait_for(clients, request, *work, activity_of(*work, jobs, job_timestamp()),
                  [clients, work = *work, answer = std::move(answer)](bool, const std::string&) {
                    return reworked(*clients, work, answer);
                  });
}

http::Answer enlarge(SdapiExtrasKind kind, const std::shared_ptr<Clients>& clients, const http::Request& request) {
  return rework(
      clients, request, "extras",
      [kind](const json& body, const SdapiContext& context) { return decode_sdapi_extras(kind, body, context); },
      [kind](const auto& pictures, const auto& warnings) { return sdapi_extras_answer(kind, pictures, warnings); });
}

http::Answer detect(const std::shared_ptr<Clients>& clients, const http::Request& request) {
  return rework(clients, request, "detect", decode_sdapi_detect,
                [](const auto& pictures, const auto&) { return sdapi_detect_answer(pictures); });
}

std::optional<SdapiProgress> progress_of(Clients& clients, const std::string& caller) {
  const auto activity = clients.sessions.current(caller);
  if (!activity) return std::nullopt;
  SdapiProgress progress{.job = "scripts_txt2img",
                         .job_timestamp = activity->job_timestamp,
                         .job_count = 0,
                         .stage = "queued",
                         .interrupted = activity->interrupted,
                         .preview = activity->preview};
  bool found = false;
  for (const SdapiActivity::Part& part : activity->parts) {
    progress.job_count += part.pictures;
    const auto view = clients.jobs.get(part.job);
    if (!view || is_finished(view->status)) {
      progress.job_no += part.pictures;
    } else if (!found) {
      found = true;
      progress.job = view->id;
      progress.step = view->progress.step;
      progress.steps = view->progress.steps;
      progress.seconds_left = view->progress.seconds_left;
      if (!view->progress.stage.empty()) progress.stage = view->progress.stage;
    }
  }
  return progress;
}

http::Answer progress(Clients& clients, const http::Request& request) {
  const auto skip = request.query_value("skip_current_image");
  const bool skips = skip && (*skip == "true" || *skip == "True" || *skip == "1");
  return json_response(200, sdapi_progress_answer(progress_of(clients, caller_of(request)),
                                                  skips ? PreviewUse::skip : PreviewUse::show));
}

http::Answer interrupt(Clients& clients, const http::Request& request) {
  for (const std::string& job : clients.sessions.interrupt(caller_of(request))) {
    static_cast<void>(clients.jobs.cancel(job));
  }
  return json_response(200, json::object());
}

bool has_idle_worker(Jobs& jobs) {
  return std::ranges::any_of(jobs.stats().workers,
                             [](const WorkerStats& worker) { return worker.state == WorkerState::idle; });
}

// The model that the caller's next request would use, as jobs name it.
Result<std::string> checkpoint_of(Clients& clients, const std::string& caller) {
  const auto catalog = clients.models.known();
  if (!catalog) return tl::unexpected(catalog.error());
  const SdapiOptions options = clients.sessions.options(caller);
  return default_checkpoint({clients.desk.limits(), **catalog, options, clients.default_model(**catalog)});
}

// What a worker came to; its thread and a handler's share it.
struct Outcome {
  std::mutex mutex;
  bool is_there = false;
  std::optional<Error> trouble;
};

http::Answer change_options(Clients& clients, const http::Request& request) {
  const Result<json> body = sdapi_body(request);
  if (!body) return sdapi_refusal({body.error(), {}});
  const std::string caller = caller_of(request);
  const auto known = clients.models.known();
  if (!known) return sdapi_refusal({known.error(), {}});
  const ModelCatalog& catalog = **known;
  const SdapiOptions options = clients.sessions.options(caller);
  auto changed =
      changed_sdapi_options(*body, {clients.desk.limits(), catalog, options, clients.default_model(catalog)});
  if (!changed) return sdapi_refusal(changed.error());
  const bool other_model = changed->checkpoint != options.checkpoint;
  clients.sessions.set_options(caller, std::move(*changed));
  // webui loads the model now, so that the next picture has not to wait for it; here where nobody else needs a worker.
  if (other_model && has_idle_worker(clients.jobs)) {
    if (const auto model = checkpoint_of(clients, caller)) clients.jobs.load_model(*model, [](const Result<void>&) {});
  }
  return json_response(200, nullptr);
}

using MoveModel = void (Jobs::*)(const std::string&, std::function<void(Result<void>)>);

// Answers once the caller's checkpoint is loaded, or let go of.
http::Answer move_model(const std::shared_ptr<Clients>& clients, const http::Request& request, MoveModel move) {
  const Result<std::string> model = checkpoint_of(*clients, caller_of(request));
  if (!model) return sdapi_refusal({model.error(), {}});
  const auto outcome = std::make_shared<Outcome>();
  const auto later = std::make_shared<http::Later>(clients->deadline(), [outcome] {
    const std::scoped_lock lock(outcome->mutex);
    if (!outcome->is_there) {
      return sdapi_refusal({{ErrorCode::timed_out, "the workers are still at other work; it will be done"}, {}});
    }
    return outcome->trouble ? sdapi_refusal({*outcome->trouble, {}}) : json_response(200, nullptr);
  });
  (clients->jobs.*move)(*model, [outcome, weak = std::weak_ptr(later)](const Result<void>& done) {
    {
      const std::scoped_lock lock(outcome->mutex);
      outcome->is_there = true;
      if (!done) outcome->trouble = done.error();
    }
    if (const auto waiting = weak.lock()) waiting->bell().ring();
  });
  return later;
}

http::Answer show_options(Clients& clients, const http::Request& request) {
  const auto catalog = clients.models.known_or_none();
  const SdapiOptions options = clients.sessions.options(caller_of(request));
  return json_response(200, sdapi_options({clients.desk.limits(), *catalog, options, clients.default_model(*catalog)}));
}

http::Answer png_info(const Clients& clients, const http::Request& request) {
  const Result<json> body = sdapi_body(request);
  if (!body) return sdapi_refusal({body.error(), {}});
  auto info = sdapi_png_info(*body, clients.desk.limits());
  return info ? json_response(200, *info) : sdapi_refusal(info.error());
}

}  // namespace

http::Response sdapi_refusal(const Refusal& refusal) {
  // compat(webui): FastAPI's for what a body must not be.
  const bool invalid = refusal.error.code == ErrorCode::invalid_argument;
  return json_response(invalid ? 422 : http::status_of(refusal.error.code), sdapi_error(refusal));
}

http::Response sdapi_problem(const http::Problem& problem) {
  http::Response response = sdapi_refusal({{problem.code, problem.detail}, problem.complaints});
  response.status = problem.status;
  for (const auto& [name, value] : problem.headers) response.headers.set(name, value);
  return response;
}

Result<json> sdapi_body(const http::Request& request) {
  if (request.body.find_first_not_of(" \t\r\n") == std::string::npos) return json::object();
  Result<json> body = parse_json(request.body);
  if (body && (body->is_null() || (body->is_string() && body->get_ref<const std::string&>().empty())))
    return json::object();
  return body;
}

void add_sdapi_routes(http::Router& router, const std::shared_ptr<Clients>& clients) {
  const auto route = [&](const char* method, const char* path, Scope scope, Cost cost, auto handle) {
    router.add({method, std::string("/sdapi/v1/") + path, scope, cost, std::move(handle)});
  };
  const auto counted = [&](const char* path, auto handle) {
    route("POST", path, Scope::generate, Cost::counted, std::move(handle));
  };
  counted("txt2img", [clients](const http::Request& r) { return generate(SdapiKind::txt2img, clients, r); });
  counted("img2img", [clients](const http::Request& r) { return generate(SdapiKind::img2img, clients, r); });
  counted("extra-single-image",
          [clients](const http::Request& r) { return enlarge(SdapiExtrasKind::single, clients, r); });
  counted("extra-batch-images",
          [clients](const http::Request& r) { return enlarge(SdapiExtrasKind::batch, clients, r); });
  router.add({"POST", "/controlnet/detect", Scope::generate, Cost::counted,
              [clients](const http::Request& r) { return detect(clients, r); }});
  route("POST", "png-info", Scope::read, Cost::free,
        [clients](const http::Request& r) { return png_info(*clients, r); });
  route("GET", "progress", Scope::read, Cost::free,
        [clients](const http::Request& r) { return progress(*clients, r); });
  for (const char* path : {"interrupt", "skip"}) {
    route("POST", path, Scope::generate, Cost::free,
          [clients](const http::Request& r) { return interrupt(*clients, r); });
  }
  route("POST", "reload-checkpoint", Scope::generate, Cost::free,
        [clients](const http::Request& r) { return move_model(clients, r, &Jobs::load_model); });
  route("POST", "unload-checkpoint", Scope::generate, Cost::free,
        [clients](const http::Request& r) { return move_model(clients, r, &Jobs::unload_model); });
  route("GET", "options", Scope::read, Cost::free,
        [clients](const http::Request& r) { return show_options(*clients, r); });
  route("POST", "options", Scope::generate, Cost::free,
        [clients](const http::Request& r) { return change_options(*clients, r); });
}

}  // namespace darkroom
