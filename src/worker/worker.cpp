#include "worker/worker.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>
#include <utility>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/overloaded.h"
#include "base/text.h"
#include "engine/image/codec.h"
#include "engine/image/latent_preview.h"
#include "spec/scheduler_names.h"
#include "worker/memory.h"

namespace darkroom {
namespace {

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

Response failed(std::string request_id, Error error) {
  Response response;
  response.request_id = std::move(request_id);
  response.refusal = Refusal{std::move(error), {}};
  return response;
}

Response answered(std::string request_id, ResponseData data) {
  Response response;
  response.request_id = std::move(request_id);
  response.data = std::move(data);
  return response;
}

// Every scheduler that a request may name, under the names that people know.
SchedulerList scheduler_list() {
  SchedulerList list;
  for (const SchedulerEntry& entry : known_schedulers()) list.schedulers.emplace_back(entry.title);
  return list;
}

}  // namespace

// Tells the other side how far the job is.
class Worker::JobProgress final : public engine::ProgressSink {
 public:
  JobProgress(Worker& worker, const QueuedJob& job) : worker_(worker), request_id_(job.request_id) {
    if (const auto* generation = std::get_if<GenerationRequest>(&job.job)) {
      preview_every_ = generation->spec.output.preview_every;
    }
  }

  void stage(std::string_view name) override {
    stage_ = name;
    worker_.send(Event{request_id_, Progress{.stage = stage_, .step = 0, .steps = 0, .seconds_left = 0.0}});
  }
  void step(const engine::StepProgress& progress) override {
    worker_.send(
        Event{request_id_, Progress{.stage = stage_,
                                    .step = progress.step,
                                    .steps = progress.steps,
                                    .seconds_left = (progress.steps - progress.step) * progress.seconds_per_step,
                                    .preview = preview(progress)}});
  }

 private:
  std::string preview(const engine::StepProgress& progress) const {
    if (preview_every_ == 0 || progress.step % preview_every_ != 0 || progress.latents.empty()) return "";
    constexpr int kQuality = 80;
    const std::size_t first = progress.latents.size() / static_cast<std::size_t>(progress.picture_count);
    const auto jpeg = engine::encode_jpeg(
        engine::latent_preview(progress.latents.first(first), progress.latent_height, progress.latent_width), kQuality);
    if (!jpeg) return "";
    return "data:image/jpeg;base64," +
           encode_base64(std::string_view(reinterpret_cast<const char*>(jpeg->data()), jpeg->size()));
  }

  Worker& worker_;
  std::string request_id_;
  std::string stage_;
  int preview_every_ = 0;
};

Worker::Worker(const Config& config, ModelDirectories::Reach reach, const WorkerFds& fds)
    : config_(config),
      fds_(fds),
      reader_(fds.input, config.worker.line_bytes),
      writer_(fds.output),
      models_(config.models.directories, reach),
      outputs_(config.outputs.directory, reach),
      engine_(
          {.device = config.worker.device, .threads = config.worker.threads, .cache_bytes = config.worker.cache_bytes}),
      runner_(engine_, models_, outputs_, config_),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  DR_ASSERT(static_cast<bool>(wake_));
}

Worker::~Worker() = default;

void Worker::run() {
  send(Event{"", Ready{.version = DARKROOM_VERSION,
                       .device = engine_.device(),
                       .pid = ::getpid(),
                       .compute_type = engine_.compute_type()}});
  for (const std::string& directory : models_.missing()) {
    send(Event{"", Log{LogLevel::warning, "the models directory " + directory + " does not exist"}});
  }
  std::thread jobs([this] { run_jobs(); });
  bool input_open = true;
  while (!finished()) {
    std::array<pollfd, 3> fds = {pollfd{fds_.signals, POLLIN, 0}, pollfd{wake_.get(), POLLIN, 0},
                                 pollfd{input_open ? fds_.input : -1, POLLIN, 0}};
    const int ready = ::poll(fds.data(), fds.size(), milliseconds_to_deadline());
    if (ready <= 0) continue;  // a deadline passed (finished() sees to it) or a stray signal
    if (fds[0].revents != 0) {
      drain(Drain::cancel);
      // One is enough; a second signal has nothing more to say.
      std::array<char, 4096> ignored;
      [[maybe_unused]] const ssize_t count = ::read(fds_.signals, ignored.data(), ignored.size());
    }
    if (fds[1].revents != 0) {
      std::uint64_t count = 0;
      [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &count, sizeof count);
    }
    if (fds[2].revents != 0) {
      reader_.read_some();
      while (const std::optional<Received> received = reader_.take()) {
        receive(*received);
        if (received->kind != Received::Kind::end) continue;
        input_open = false;
        break;
      }
      changed_.notify_one();  // not before: what came at once may share passes
    }
  }
  jobs.join();
  for (const std::string& request_id : shutdown_requests_) send(answered(request_id, ShutDown{}));
}

void Worker::receive(const Received& received) {
  switch (received.kind) {
    case Received::Kind::end:
      drain(Drain::finish);
      return;
    case Received::Kind::too_long:
      send(failed("unknown",
                  {ErrorCode::invalid_argument,
                   fmt::format("a message is longer than {} bytes (worker.line_bytes)", config_.worker.line_bytes)}));
      return;
    case Received::Kind::line:
      break;
  }
  auto request = decode_request(received.text, config_.limits);
  if (request) {
    handle(std::move(*request));
  } else {
    send(std::move(request.error()));
  }
}

void Worker::handle(Request request) {
  const std::string& id = request.request_id;
  std::visit(Overloaded{
                 [&](GenerationRequest& body) { enqueue(id, std::move(body)); },
                 [&](LoadModel& body) { enqueue(id, std::move(body)); },
                 [&](UnloadModel& body) { enqueue(id, std::move(body)); },
                 [&](const ListModels& body) { send(answered(id, list(body.role))); },
                 [&](const ListSchedulers&) { send(answered(id, scheduler_list())); },
                 [&](const AskStatus&) { send(answered(id, status())); },
                 [&](const CancelJob& body) {
                   auto data = cancel(body.target);
                   send(data ? answered(id, std::move(*data)) : failed(id, std::move(data.error())));
                 },
                 [&](const Shutdown& body) {
                   shutdown_requests_.push_back(id);
                   drain(body.cancel ? Drain::cancel : Drain::finish);
                 },
             },
             request.body);
}

void Worker::enqueue(const std::string& request_id, Job job) {
  QueuedJob queued{.request_id = request_id, .job = std::move(job), .priority = Priority::normal, .timeout = 0};
  if (const auto* generation = std::get_if<GenerationRequest>(&queued.job)) {
    queued.priority = generation->job.priority;
    queued.timeout = generation->job.timeout;
  }
  std::optional<Error> refusal;
  {
    const std::lock_guard lock(mutex_);
    const auto same_id = [&](const QueuedJob& other) { return other.request_id == request_id; };
    if (draining_) {
      refusal = {ErrorCode::conflict, "the worker is shutting down"};
    } else if (queue_.size() >= static_cast<std::size_t>(config_.worker.queue)) {
      refusal = {ErrorCode::overloaded, fmt::format("{} jobs wait already (worker.queue)", queue_.size())};
    } else if (find_running(request_id) != nullptr || std::any_of(queue_.begin(), queue_.end(), same_id)) {
      refusal = {ErrorCode::conflict, fmt::format("a job with the request id \"{}\" is not finished yet", request_id)};
    } else {
      // Behind all of the same or a higher priority.
      const auto place = std::find_if(queue_.begin(), queue_.end(),
                                      [&](const QueuedJob& other) { return other.priority < queued.priority; });
      queue_.insert(place, std::move(queued));
    }
  }
  if (refusal) send(failed(request_id, std::move(*refusal)));
}

ResponseData Worker::list(std::optional<ModelRole> role) {
  ModelList list{models_.list(role)};
  const std::lock_guard lock(mutex_);
  for (ModelEntry& model : list.models) {
    model.loaded =
        std::any_of(loaded_.begin(), loaded_.end(), [&](const auto& loaded) { return loaded.path == model.path; });
  }
  return list;
}

ResponseData Worker::status() {
  const std::lock_guard lock(mutex_);
  Status status;
  status.orchestrator_status = draining_ ? "draining" : "running";
  status.device = engine_.device();
  status.running = running_.empty() ? "" : running_.front()->request_id;
  status.memory_used = resident_bytes();
  status.memory_peak = peak_resident_bytes();
  for (const QueuedJob& job : queue_) status.queued.push_back(job.request_id);
  for (const engine::LoadedModel& model : loaded_) {
    status.loaded_models.push_back({model.path.string(), model.kind, model.bytes, model.last_used});
  }
  return status;
}

tl::expected<ResponseData, Error> Worker::cancel(const std::string& target) {
  {
    const std::lock_guard lock(mutex_);
    if (RunningJob* running = find_running(target)) {
      running->cancel.cancel(ErrorCode::cancelled);
      return JobCancelled{target};
    }
    const auto queued =
        std::find_if(queue_.begin(), queue_.end(), [&](const QueuedJob& job) { return job.request_id == target; });
    if (queued == queue_.end()) {
      return fail(ErrorCode::not_found, "no job with the request id \"{}\" is queued or running", target);
    }
    queue_.erase(queued);
  }
  send(failed(target, {ErrorCode::cancelled, "the job was cancelled before it started"}));
  return JobCancelled{target};
}

void Worker::drain(Drain how) {
  std::deque<QueuedJob> dropped;
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;
    if (how == Drain::cancel) {
      for (const auto& running : running_) running->cancel.cancel(ErrorCode::cancelled);
      dropped.swap(queue_);
    }
  }
  changed_.notify_one();
  for (const QueuedJob& job : dropped) {
    send(failed(job.request_id, {ErrorCode::cancelled, "the worker shut down before the job started"}));
  }
}

Worker::RunningJob* Worker::find_running(const std::string& request_id) const {
  for (const auto& running : running_) {
    if (running->request_id == request_id) return running.get();
  }
  return nullptr;
}

bool Worker::finished() {
  bool lost = false;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& running : running_) {
      if (!running->deadline || Clock::now() < *running->deadline) continue;
      running->cancel.cancel(ErrorCode::timed_out);
      running->deadline.reset();
    }
    lost = lost_;
    if (!lost) return draining_ && running_.empty() && queue_.empty();
  }
  drain(Drain::cancel);  // nobody waits for the answers
  const std::lock_guard lock(mutex_);
  return running_.empty();
}

int Worker::milliseconds_to_deadline() {
  const std::lock_guard lock(mutex_);
  std::int64_t left = -1;
  for (const auto& running : running_) {
    if (!running->deadline) continue;
    const std::int64_t own = std::max<std::int64_t>(
        0, std::chrono::ceil<std::chrono::milliseconds>(*running->deadline - Clock::now()).count());
    left = left < 0 ? own : std::min(left, own);
  }
  return static_cast<int>(std::min<std::int64_t>(left, 60'000));
}

std::vector<Worker::QueuedJob> Worker::next_jobs() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return draining_ || !queue_.empty(); });
  std::vector<QueuedJob> jobs;
  const auto take = [&](const std::deque<QueuedJob>::iterator& job) {
    running_.push_back(std::make_shared<RunningJob>());
    running_.back()->request_id = job->request_id;
    jobs.push_back(std::move(*job));
    return queue_.erase(job);
  };
  if (queue_.empty()) return jobs;
  take(queue_.begin());
  if (!std::holds_alternative<GenerationRequest>(jobs.front().job)) return jobs;
  const auto joins = [&](const QueuedJob& other) {
    const auto* request = std::get_if<GenerationRequest>(&other.job);
    return request != nullptr && may_share(std::get<GenerationRequest>(jobs.front().job), *request);
  };
  const auto most = static_cast<std::size_t>(config_.worker.batch);
  for (auto job = queue_.begin(); job != queue_.end() && jobs.size() < most;) {
    job = joins(*job) ? take(job) : std::next(job);
  }
  return jobs;
}

void Worker::run_jobs() {
  for (std::vector<QueuedJob> jobs = next_jobs(); !jobs.empty(); jobs = next_jobs()) {
    if (jobs.size() == 1) {
      run_alone(jobs.front());
    } else {
      run_together(jobs);
    }
  }
}

void Worker::run_alone(const QueuedJob& job) {
  const std::shared_ptr<RunningJob> running = running_.front();  // only this thread replaces it
  start_clock(*running, job.timeout);
  JobProgress progress(*this, job);
  end(runner_.run(job.request_id, job.job, progress, running->cancel));
}

void Worker::run_together(std::span<const QueuedJob> jobs) {
  const std::vector<std::shared_ptr<RunningJob>> running = running_;
  std::deque<JobProgress> progress;
  std::vector<JobRunner::Member> members;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    members.push_back({.request_id = jobs[i].request_id,
                       .request = std::get<GenerationRequest>(jobs[i].job),
                       .progress = progress.emplace_back(*this, jobs[i]),
                       .cancel = running[i]->cancel});
  }
  runner_.run_together(
      members,
      [&](std::size_t first, std::size_t count) {
        for (std::size_t i = first; i < first + count; ++i) start_clock(*running[i], jobs[i].timeout);
      },
      [&](std::size_t, Response response) { end(std::move(response)); });
}

// From now on the job's time counts.
void Worker::start_clock(RunningJob& job, int timeout) {
  if (timeout == 0) return;
  {
    const std::lock_guard lock(mutex_);
    job.deadline = Clock::now() + std::chrono::seconds(timeout);
  }
  wake_reader();  // there is a deadline now
}

void Worker::end(Response response) {
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(running_, [&](const auto& running) { return running->request_id == response.request_id; });
    loaded_ = engine_.loaded();
  }
  send(std::move(response));  // after the erasing, so that its id is free once it is answered
  wake_reader();
}

void Worker::send(Response response) {
  response.timestamp = seconds_since_1970();
  send_line(encode(response));
}

void Worker::send(const Event& event) { send_line(encode(event)); }

void Worker::send_line(const std::string& line) {
  if (writer_.write(line)) return;
  {
    const std::lock_guard lock(mutex_);
    lost_ = true;
  }
  wake_reader();
}

void Worker::wake_reader() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t count = ::write(wake_.get(), &one, sizeof one);
}

}  // namespace darkroom
