// OpenAI's images API.
#include <charconv>

#include "service/api/openai_answers.h"
#include "service/clients/inside.h"
#include "service/http/event_stream.h"
#include "service/http/multipart.h"

namespace darkroom {
namespace {

using http::Cost;
using nlohmann::json;

std::int64_t seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

int status_for(const Refusal& refusal) { return http::status_of(refusal.error.code); }

http::Response refusal_response(const Refusal& refusal) {
  const int status = status_for(refusal);
  return json_response(status, openai_error(refusal, status));
}

http::Response problem_response(const http::Problem& problem) {
  const Refusal refusal{{problem.code, problem.detail}, problem.complaints};
  http::Response response = json_response(problem.status, openai_error(refusal, problem.status));
  for (const auto& [name, value] : problem.headers) response.headers.set(name, value);
  return response;
}

// A header for what a client would not look for in the answer.
void add_warnings(http::Response& response, const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) {
    std::string text;
    for (const char c : warning) text += c >= ' ' && c < 0x7F ? c : '?';
    response.headers.add("X-Darkroom-Warning", text.substr(0, 500));
  }
}

Result<OpenaiForm> form_of(const http::Request& request) {
  const std::string_view type = request.headers.get("content-type");
  if (type.starts_with("multipart/form-data")) {
    const auto parts = http::parse_multipart(type, request.body);
    if (!parts) return tl::unexpected(parts.error());
    std::vector<FormPart> all;
    for (const http::FormPart& part : *parts) {
      all.push_back({part.name, part.filename, part.content_type, std::string(part.data)});
    }
    return openai_form(all);
  }
  Result<json> body = parse_json(request.body);
  if (!body) return tl::unexpected(body.error());
  return OpenaiForm{.fields = std::move(*body), .images = {}, .masks = {}};
}

http::Response finished(const Clients& clients, const http::Request& request, const Work& work) {
  const auto& asked = *static_cast<const OpenaiRequest*>(work.what.get());
  const std::vector<JobView> views = views_of(clients.jobs, work);
  if (const auto failure = failure_of(views)) return refusal_response(*failure);
  std::vector<OpenaiPicture> pictures;
  for (const JobView& view : views) {
    if (asked.as_url) {
      for (std::size_t i = 0; i < view.pictures.size(); ++i) {
        pictures.push_back({.file = "", .url = clients.desk.picture_url(request, view, i)});
      }
      continue;
    }
    Result<std::vector<std::string>> files = read_pictures(clients.jobs, view);
    if (!files) return refusal_response({files.error(), {}});
    for (std::string& file : *files) pictures.push_back({.file = std::move(file), .url = ""});
  }
  http::Response response = json_response(200, openai_answer(asked, pictures, seconds_now()));
  add_warnings(response, warnings_of(views));
  return response;
}

void send(http::EventStream& stream, const OpenaiEvent& event) {
  stream.send({.id = "", .name = event.name, .data = event.data.dump()});
}

// The events of a stream: previews as they come, each picture once its job has ended, and "[DONE]".
class StreamedWork {
 public:
  StreamedWork(const std::shared_ptr<Clients>& clients, Work work, std::shared_ptr<http::EventStream> stream)
      : clients_(clients),
        jobs_(clients->jobs),
        work_(std::move(work)),
        stream_(std::move(stream)),
        left_(work_.jobs.size()) {}

  const OpenaiRequest& asked() const { return *static_cast<const OpenaiRequest*>(work_.what.get()); }

  // From the jobs' threads, which must not wait: what reads files goes to another.
  static void on_event(const std::shared_ptr<StreamedWork>& self, const JobEvent& event) {
    if (event.kind == JobEventKind::preview) {
      const std::scoped_lock lock(self->mutex_);
      if (self->previews_ >= self->asked().partial_images) return;
      send(*self->stream_, openai_partial_image(self->asked(), event.preview, self->previews_++, seconds_now()));
    } else if (event.kind == JobEventKind::ended) {
      if (const auto clients = self->clients_.lock()) {
        clients->tasks.post([self, job = event.job] { self->end_job(job); });
      }
    }
  }

 private:
  void end_job(const JobView& job) {
    if (const auto failure = failure_of({job})) {
      send(*stream_, openai_stream_error(*failure, status_for(*failure)));
      stream_->finish();
      return;
    }
    const Result<std::vector<std::string>> files = read_pictures(jobs_, job);
    if (!files) {
      const Refusal refusal{files.error(), {}};
      send(*stream_, openai_stream_error(refusal, status_for(refusal)));
      stream_->finish();
      return;
    }
    for (const std::string& file : *files) send(*stream_, openai_completed(asked(), file, seconds_now()));
    if (--left_ > 0) return;
    stream_->send({.id = "", .name = "", .data = "[DONE]"});
    stream_->finish();
  }

  // Not owned: the task thread is theirs, and a task that held the last of them would have to wait for its own end.
  std::weak_ptr<Clients> clients_;
  Jobs& jobs_;  // outlives the task thread
  Work work_;
  std::shared_ptr<http::EventStream> stream_;
  std::mutex mutex_;  // over the next
  int previews_ = 0;
  std::size_t left_;  // jobs; the task thread's
};

http::Answer stream_of(const std::shared_ptr<Clients>& clients, const Work& work) {
  constexpr std::size_t kMostWaiting = 256 * 1024 * 1024;  // ten pictures in base64
  const auto stream = std::make_shared<http::EventStream>(kMostWaiting);
  const auto streamed = std::make_shared<StreamedWork>(clients, work, stream);
  const auto subscriptions = std::make_shared<std::vector<Subscription>>();
  for (const std::string& id : work.jobs) {
    // The stream keeps the subscriptions, and they what feeds it, weakly.
    auto subscription = clients->jobs.subscribe(id, "", [weak = std::weak_ptr(streamed)](const JobEvent& event) {
      if (const auto self = weak.lock()) StreamedWork::on_event(self, event);
    });
    if (!subscription) return refusal_response({subscription.error(), {}});
    subscriptions->push_back(std::move(*subscription));
  }
  // Also what feeds it; the order of their ends does not matter.
  stream->keep(std::make_shared<std::pair<decltype(subscriptions), decltype(streamed)>>(subscriptions, streamed));
  http::Response response;
  response.headers.set("Content-Type", "text/event-stream");
  response.headers.set("Cache-Control", "no-cache");
  response.body = stream;
  return response;
}

// openai-python and -node try again after a dropped connection, and say so.
bool is_retry(const http::Request& request) {
  const std::string_view text = request.headers.get("x-stainless-retry-count");
  int count = 0;
  std::from_chars(text.data(), text.data() + text.size(), count);
  return count > 0;
}

http::Answer generate(OpenaiKind kind, const std::shared_ptr<Clients>& clients, const http::Request& request) {
  std::optional<Work> work;
  if (is_retry(request)) work = clients->abandoned.take(clients->jobs, request);
  if (!work) {
    const Result<OpenaiForm> form = form_of(request);
    if (!form) return refusal_response({form.error(), {}});
    const auto known = clients->models.known();
    if (!known) return refusal_response({known.error(), {}});
    const ModelCatalog& catalog = **known;
    auto decoded = decode_openai(
        kind, *form,
        {clients->desk.limits(), catalog, clients->default_model(catalog), clients->options.strict_models});
    if (!decoded) return refusal_response(decoded.error());
    const auto what = std::make_shared<const OpenaiRequest>(std::move(*decoded));
    auto submitted = submit(clients->desk, request, {"images", what->jobs, what->echo});
    if (!submitted) return problem_response(submitted.error());
    work = std::move(*submitted);
    work->what = what;
  }
  if (static_cast<const OpenaiRequest*>(work->what.get())->stream) return stream_of(clients, *work);
  return answer_later(clients->jobs, {.work = *work,
                                      .deadline = clients->deadline(),
                                      .respond = [clients, head = head_of(request),
                                                  work = *work] { return finished(*clients, head, work); },
                                      .on_event = nullptr,
                                      .on_gone = [clients, whose = Abandoned::owner_of(request),
                                                  work = *work] { clients->abandoned.leave(whose, work); }});
}

}  // namespace

http::Response json_response(int status, const json& body) {
  return http::text_response(status, "application/json", body.dump(-1, ' ', false, json::error_handler_t::replace));
}

http::Request head_of(const http::Request& request) {
  http::Request head = request;
  head.body.clear();
  return head;
}

void add_openai_routes(http::Router& router, const std::shared_ptr<Clients>& clients) {
  const std::pair<const char*, OpenaiKind> kKinds[] = {
      {"generations", OpenaiKind::generations}, {"edits", OpenaiKind::edits}, {"variations", OpenaiKind::variations}};
  for (const auto& [word, kind] : kKinds) {
    router.add({"POST", std::string("/v1/images/") + word, Scope::generate, Cost::counted,
                [clients, of = kind](const http::Request& request) { return generate(of, clients, request); }});
  }
  router.add({"GET", "/v1/models", Scope::read, Cost::free, [clients](const http::Request&) -> http::Answer {
                return json_response(200, openai_models(*clients->models.known_or_none(), 0));
              }});
  router.add(
      {"GET", "/v1/models/{id}", Scope::read, Cost::free, [clients](const http::Request& request) -> http::Answer {
         auto model = openai_model(*clients->models.known_or_none(), request.parameter("id"), 0);
         return model ? json_response(200, *model) : refusal_response(model.error());
       }});
}

std::function<void()> add_client_routes(http::Router& router, JobDesk& desk, ClientsOptions options) {
  const auto clients = std::make_shared<Clients>(desk, std::move(options));
  add_sdxl_routes(router, clients);
  add_sdapi_routes(router, clients);
  add_sdapi_list_routes(router, clients);
  add_openai_routes(router, clients);
  for (const char* path : {"/sdapi", "/controlnet", "/queue"}) {
    router.format_problems(path, [](http::Problem problem, const http::Request&) {
      if (problem.status == 404) problem.detail = "Not Found";  // the words that clients look for
      return sdapi_problem(problem);
    });
  }
  for (const char* path : {"/v1/images", "/v1/models"}) {
    router.format_problems(
        path, [](const http::Problem& problem, const http::Request&) { return problem_response(problem); });
  }
  return [weak = std::weak_ptr(clients)] {
    if (const auto still = weak.lock()) still->models.look_now();
  };
}

}  // namespace darkroom
