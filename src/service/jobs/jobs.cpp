#include "service/jobs/jobs.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <system_error>
#include <utility>

#include "base/random.h"
#include "service/blobs/folder_blob_store.h"
#include "service/blobs/ticket.h"
#include "service/events/event_bus.h"
#include "service/jobs/dispatcher.h"
#include "service/jobs/intake.h"
#include "service/jobs/keeping.h"
#include "service/jobs/live_jobs.h"
#include "service/jobs/webhooks.h"
#include "service/store/sqlite_store.h"
#include "service/workers/pipe_channel.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kAnswerPatience(5);  // for what a worker answers beside its job
constexpr int kMaxPage = 1000;                      // jobs
constexpr std::uint64_t kEnvelope = 1'000'000;      // bytes of a message beside its pictures, generously

std::string random_id() { return fmt::format("{:016x}{:016x}", random_u64(), random_u64()); }

// Without the worker's outputs directory, which is the spool.
std::vector<std::string> arguments_with(std::vector<std::string> arguments, const fs::path& spool) {
  for (auto flag = arguments.begin(); flag != arguments.end();) {
    if (*flag != "--outputs") {
      ++flag;
    } else {
      flag = arguments.erase(flag, std::min(flag + 2, arguments.end()));
    }
  }
  arguments.insert(arguments.end(), {"--outputs", spool.string()});
  return arguments;
}

std::uint64_t picture_bytes(const GenerationSpec& spec) {
  std::uint64_t bytes = 0;
  if (spec.init_image) bytes += spec.init_image->bytes.size();
  if (spec.mask_image) bytes += spec.mask_image->bytes.size();
  for (const ControlNetUse& use : spec.controlnets) bytes += use.image.bytes.size();
  return bytes;
}

Result<void> make_private_directory(const fs::path& path) {
  std::error_code error;
  if (fs::create_directories(path, error)) fs::permissions(path, fs::perms::owner_all, error);
  if (error) return fail(ErrorCode::invalid_argument, "cannot make {}: {}", path.string(), error.message());
  return {};
}

// A spool of this process's own; what those before it have left goes, as far as it can: a worker may outlive its
// service for a moment and still write there.
Result<void> make_spool(const fs::path& spool) {
  if (Result<void> made = make_private_directory(spool.parent_path()); !made) return made;
  std::error_code ignored;  // the next start tries again
  for (const auto& entry : fs::directory_iterator(spool.parent_path(), ignored)) fs::remove_all(entry.path(), ignored);
  return make_private_directory(spool);
}

// Blobs that were kept just before the end, and whose job was not told of.
Result<void> sweep_blobs(BlobStore& blobs, JobStore& store) {
  const Result<std::vector<std::string>> ids = blobs.list();
  if (!ids) return tl::unexpected(ids.error());
  for (const std::string& id : *ids) {
    const Result<bool> known = store.has_blob(id);
    if (!known) return tl::unexpected(known.error());
    if (*known) continue;
    if (Result<void> removed = blobs.remove(id); !removed) return removed;
  }
  return {};
}

std::string ticket_name(std::string_view job, int picture) { return fmt::format("{}/{}", job, picture); }

}  // namespace

class Jobs::Service {
 public:
  static Result<std::unique_ptr<Service>> start(JobsOptions options);

  Result<Submitted> submit(const Submission& submission);
  Result<void> check(const Submission& submission) const;
  Result<JobView> get(const std::string& id);
  Result<JobView> cancel(const std::string& id);
  Result<Subscription> subscribe(const std::string& id, const std::string& last_event_id, EventBus::Listener listener);
  Result<JobView> wait(const std::string& id, std::chrono::steady_clock::time_point deadline);
  // What a worker answers, as a T.
  template <class T>
  Result<T> ask(RequestBody body);
  Result<std::vector<ModelEntry>> models();
  JobsStats stats();
  void remove_blobs(const std::vector<std::string>& ids);

  JobStore& store() { return *store_; }
  FolderBlobStore& blobs() { return *blobs_; }
  const TicketOffice& tickets() const { return tickets_; }
  LiveJobs& live() { return live_; }
  Dispatcher& dispatcher() { return *dispatcher_; }

 private:
  Service(JobsOptions options, std::unique_ptr<JobStore> store, std::unique_ptr<FolderBlobStore> blobs,
          TicketOffice tickets);
  DispatcherOptions dispatcher_options() const;
  fs::path spool() const { return fs::path(options_.service.data) / "spool" / node_; }

  JobsOptions options_;
  std::string node_ = random_id();
  std::unique_ptr<JobStore> store_;
  std::unique_ptr<FolderBlobStore> blobs_;
  TicketOffice tickets_;
  std::unique_ptr<EventBus> bus_ = make_local_event_bus();
  LiveJobs live_;
  std::atomic<std::uint64_t> admitted_ = 0;
  std::atomic<std::uint64_t> refused_ = 0;
  std::mutex models_mutex_;
  std::vector<ModelEntry> models_;  // as last listed
  std::unique_ptr<WebhookSender> webhooks_;
  std::unique_ptr<Dispatcher> dispatcher_;  // last: it uses all of the above
};

// --- Start ---

Result<std::unique_ptr<Jobs::Service>> Jobs::Service::start(JobsOptions options) {
  const fs::path data = options.service.data;
  if (Result<void> made = make_private_directory(data); !made) return tl::unexpected(made.error());
  Result<std::unique_ptr<JobStore>> store = open_sqlite_store(data / "jobs.db");  // from here on, the data is ours
  if (!store) return tl::unexpected(store.error());
  Result<std::unique_ptr<FolderBlobStore>> blobs = FolderBlobStore::open(data / "pictures");
  if (!blobs) return tl::unexpected(blobs.error());
  if (Result<void> swept = sweep_blobs(**blobs, **store); !swept) return tl::unexpected(swept.error());
  Result<TicketOffice> tickets = TicketOffice::open(data / "secret");
  if (!tickets) return tl::unexpected(tickets.error());

  std::unique_ptr<Service> service(
      new Service(std::move(options), std::move(*store), std::move(*blobs), std::move(*tickets)));
  if (Result<void> made = make_spool(service->spool()); !made) return tl::unexpected(made.error());
  Result<std::vector<std::string>> orphans = service->store_->reap_orphans(service->node_, WallTime::clock::now());
  if (!orphans) return tl::unexpected(orphans.error());
  for (const std::string& job : *orphans) {
    service->options_.log(LogLevel::info, fmt::format("job {} was interrupted and is queued again", job));
  }
  service->webhooks_ =
      std::make_unique<WebhookSender>(WebhookOptions{.attempts = service->options_.service.webhook_attempts,
                                                     .allow_private = service->options_.service.webhook_private,
                                                     .secret = service->options_.webhook_secret,
                                                     .log = service->options_.log},
                                      *service->store_);
  service->dispatcher_ = std::make_unique<Dispatcher>(service->dispatcher_options(), *service->store_, *service->blobs_,
                                                      *service->bus_, service->live_);
  return service;
}

Jobs::Service::Service(JobsOptions options, std::unique_ptr<JobStore> store, std::unique_ptr<FolderBlobStore> blobs,
                       TicketOffice tickets)
    : options_(std::move(options)), store_(std::move(store)), blobs_(std::move(blobs)), tickets_(std::move(tickets)) {}

DispatcherOptions Jobs::Service::dispatcher_options() const {
  using std::chrono::seconds;
  const ServiceConfig& config = options_.service;
  const fs::path spool = this->spool();
  DispatcherOptions options{
      .pool = {.workers = config.workers,
               .start = [program = options_.worker, arguments = arguments_with(options_.worker_arguments, spool)](
                            OnArrival on_arrival) { return start_child(program, arguments, std::move(on_arrival)); },
               .heartbeat = seconds(config.heartbeat),
               .patience = seconds(config.patience),
               .first_restart = options_.first_restart,
               .last_restart = seconds(config.restart),
               .grace = options_.grace},
      .batch = options_.batch,
      .node = node_,
      .spool = spool,
      .outputs = options_.outputs,
      .keep_for = {},
      .keep_bytes = {},
      .log = options_.log,
      .on_ended = [this] { webhooks_->poke(); }};
  if (config.keep_days > 0) options.keep_for = std::chrono::days(config.keep_days);
  if (config.keep_bytes > 0) options.keep_bytes = config.keep_bytes;
  return options;
}

// --- Jobs ---

Result<void> Jobs::Service::check(const Submission& submission) const {
  if (!(submission.caller.weight > 0.0)) {
    return fail(ErrorCode::invalid_argument, "the key's weight is {}, must be more than 0", submission.caller.weight);
  }
  if (dispatcher_->draining()) return fail(ErrorCode::conflict, "the service is shutting down");
  if (!submission.webhook.url.empty()) {
    if (Result<void> checked = check_webhook_url(submission.webhook.url); !checked) return checked;
  }
  if (const auto plan = plan_saving(options_.outputs, submission.spec, "job"); !plan) {
    return tl::unexpected(plan.error());
  }
  const std::uint64_t bytes = picture_bytes(submission.spec) * 4 / 3 + kEnvelope;  // as base64
  if (bytes > options_.worker_line_bytes) {
    return fail(ErrorCode::invalid_argument,
                "the request's pictures make a message of some {} bytes, at most {} are allowed (worker.line_bytes)",
                bytes, options_.worker_line_bytes);
  }
  return {};
}

Result<Submitted> Jobs::Service::submit(const Submission& submission) {
  if (Result<void> checked = check(submission); !checked) return tl::unexpected(checked.error());
  Result<Admitted> admitted = store_->admit({.submission = submission,
                                             .id = random_id(),
                                             .fingerprint = fingerprint_of(submission),
                                             .batch_class = batch_class_of(submission.spec),
                                             .cost = work_of(submission.spec),
                                             .max_queued = static_cast<std::size_t>(options_.service.queue),
                                             .now = WallTime::clock::now()});
  if (!admitted) {
    if (admitted.error().code == ErrorCode::overloaded) ++refused_;
    return tl::unexpected(admitted.error());
  }
  live_.complete(admitted->job);
  if (!admitted->repeated) {
    ++admitted_;
    dispatcher_->wake();
  }
  return Submitted{std::move(admitted->job), admitted->repeated};
}

Result<JobView> Jobs::Service::get(const std::string& id) {
  Result<std::optional<JobView>> view = store_->get(id);
  if (!view) return tl::unexpected(view.error());
  if (!*view) return fail(ErrorCode::not_found, "there is no job {}", id);
  live_.complete(**view);
  if ((*view)->status == JobStatus::queued) (*view)->position = store_->position(id).value_or(std::nullopt);
  return std::move(**view);
}

Result<JobView> Jobs::Service::cancel(const std::string& id) {
  Result<Cancelling> cancelling = store_->cancel(id, WallTime::clock::now());
  if (!cancelling) return tl::unexpected(cancelling.error());
  if (cancelling->changed) dispatcher_->cancelled(cancelling->job);
  live_.complete(cancelling->job);
  return std::move(cancelling->job);
}

Result<Subscription> Jobs::Service::subscribe(const std::string& id, const std::string& last_event_id,
                                              EventBus::Listener listener) {
  std::optional<Error> trouble;
  const auto first = [&]() -> std::optional<JobEvent> {
    const Result<JobView> view = get(id);
    if (!view) {
      trouble = view.error();
      return std::nullopt;
    }
    JobEvent snapshot = snapshot_of(*view);
    // A listener that has seen the end is told again, or it would wait for ever.
    if (snapshot.id == last_event_id && snapshot.kind != JobEventKind::ended) return std::nullopt;
    return snapshot;
  };
  // The end may be in the snapshot and under way at the same time; it is told once.
  const auto ended = std::make_shared<bool>(false);
  std::shared_ptr<void> holder = bus_->subscribe(id, first, [listener = std::move(listener), ended](const JobEvent& e) {
    if (*ended) return;
    *ended = e.kind == JobEventKind::ended;
    listener(e);
  });
  if (trouble) return tl::unexpected(std::move(*trouble));
  return Subscription(std::move(holder));
}

Result<JobView> Jobs::Service::wait(const std::string& id, std::chrono::steady_clock::time_point deadline) {
  struct End {
    std::mutex mutex;
    std::condition_variable changed;
    std::optional<JobView> job;
  };
  const auto end = std::make_shared<End>();
  const Result<Subscription> subscription = subscribe(id, "", [end](const JobEvent& event) {
    if (event.kind != JobEventKind::ended) return;
    {
      const std::lock_guard lock(end->mutex);
      end->job = event.job;
    }
    end->changed.notify_all();
  });
  if (!subscription) return tl::unexpected(subscription.error());
  {
    std::unique_lock lock(end->mutex);
    if (end->changed.wait_until(lock, deadline, [&] { return end->job.has_value(); })) return *end->job;
  }
  return get(id);
}

void Jobs::Service::remove_blobs(const std::vector<std::string>& ids) {
  for (const std::string& id : ids) {
    if (const Result<void> removed = blobs_->remove(id); !removed) {
      options_.log(LogLevel::warning, removed.error().message);  // the next start sweeps it
    }
  }
}

// --- Workers ---

template <class T>  // NOLINTNEXTLINE(performance-unnecessary-value-param): it is moved
Result<T> Jobs::Service::ask(RequestBody body) {
  const auto answer = std::make_shared<std::promise<Result<ResponseData>>>();
  std::future<Result<ResponseData>> future = answer->get_future();
  dispatcher_->ask(std::move(body), [answer](Result<ResponseData> data) { answer->set_value(std::move(data)); });
  if (future.wait_for(kAnswerPatience) != std::future_status::ready) {
    return fail(ErrorCode::worker_lost, "no worker has answered within {} s", kAnswerPatience.count());
  }
  Result<ResponseData> data = future.get();
  if (!data) return tl::unexpected(data.error());
  if (auto* expected = std::get_if<T>(&*data)) return std::move(*expected);
  return fail(ErrorCode::internal, "a worker answered with something else than was asked");
}

Result<std::vector<ModelEntry>> Jobs::Service::models() {
  Result<ModelList> list = ask<ModelList>(ListModels{});
  const std::lock_guard lock(models_mutex_);
  if (list) {
    models_ = list->models;
  } else if (models_.empty()) {
    return tl::unexpected(list.error());
  }
  return models_;
}

JobsStats Jobs::Service::stats() {
  JobsStats stats{dispatcher_->tally()};
  if (const Result<QueueCounts> counts = store_->counts()) {
    stats.queued = counts->queued;
    stats.running = counts->running;
    stats.blob_bytes = counts->picture_bytes;
    stats.webhooks_waiting = counts->webhooks;
    if (counts->oldest_queued) {
      stats.oldest_queued_seconds =
          std::chrono::duration<double>(WallTime::clock::now() - *counts->oldest_queued).count();
    }
  }
  stats.admitted = admitted_;
  stats.refused = refused_;
  stats.workers = dispatcher_->workers();
  return stats;
}

// --- The facade ---

Result<std::unique_ptr<Jobs>> Jobs::start(JobsOptions options) {
  Result<std::unique_ptr<Service>> service = Service::start(std::move(options));
  if (!service) return tl::unexpected(service.error());
  return std::unique_ptr<Jobs>(new Jobs(std::move(*service)));
}

Jobs::Jobs(std::unique_ptr<Service> service) : service_(std::move(service)) {}
Jobs::~Jobs() = default;

Result<Submitted> Jobs::submit(const Submission& submission) { return service_->submit(submission); }
Result<JobView> Jobs::get(const std::string& id) { return service_->get(id); }
Result<StoredRequest> Jobs::request(const std::string& id) { return service_->store().request(id); }

Result<JobPage> Jobs::list(const JobFilter& filter, const std::string& cursor, int limit) {
  if (limit < 1 || limit > kMaxPage) {
    return fail(ErrorCode::invalid_argument, "limit is {}, must be between 1 and {}", limit, kMaxPage);
  }
  Result<JobPage> page = service_->store().list(filter, cursor, limit);
  if (page) {
    for (JobView& job : page->jobs) service_->live().complete(job);
  }
  return page;
}

Result<JobView> Jobs::cancel(const std::string& id) { return service_->cancel(id); }

Result<void> Jobs::remove(const std::string& id) {
  const Result<std::vector<std::string>> blobs = service_->store().remove(id);
  if (!blobs) return tl::unexpected(blobs.error());
  service_->remove_blobs(*blobs);
  return {};
}

Result<Subscription> Jobs::subscribe(const std::string& id, const std::string& last_event_id,
                                     std::function<void(const JobEvent&)> on_event) {
  return service_->subscribe(id, last_event_id, std::move(on_event));
}

Result<JobView> Jobs::wait(const std::string& id, std::chrono::steady_clock::time_point deadline) {
  return service_->wait(id, deadline);
}

fs::path Jobs::picture_file(const Picture& picture) const { return service_->blobs().file(picture.blob); }

std::string Jobs::ticket(std::string_view job, int picture, WallTime expires) const {
  return service_->tickets().issue(ticket_name(job, picture), expires);
}

bool Jobs::ticket_is_valid(std::string_view job, int picture, std::string_view ticket) const {
  return service_->tickets().accepts(ticket_name(job, picture), ticket, WallTime::clock::now());
}

Result<std::vector<ModelEntry>> Jobs::models() { return service_->models(); }

Result<std::vector<std::string>> Jobs::schedulers() {
  Result<SchedulerList> list = service_->ask<SchedulerList>(ListSchedulers{});
  if (!list) return tl::unexpected(list.error());
  return std::move(list->schedulers);
}

void Jobs::load_model(const std::string& model, std::function<void(Result<void>)> done) {
  service_->dispatcher().load(model, std::move(done));
}

void Jobs::unload_model(const std::string& model, std::function<void(Result<void>)> done) {
  service_->dispatcher().unload(model, std::move(done));
}

JobsStats Jobs::stats() { return service_->stats(); }

KeyUsage Jobs::usage(const std::string& key) {
  return service_->store().usage(key, WallTime::clock::now()).value_or(KeyUsage{});
}

Result<void> Jobs::ready() {
  if (const std::optional<std::string> trouble = service_->dispatcher().trouble()) {
    return fail(ErrorCode::worker_lost, "{}", *trouble);
  }
  return {};
}

void Jobs::drain(std::chrono::steady_clock::time_point deadline) { service_->dispatcher().drain(deadline); }

}  // namespace darkroom
