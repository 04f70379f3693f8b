#include "service/jobs/dispatcher.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/overloaded.h"
#include "base/text.h"
#include "service/jobs/intake.h"
#include "service/jobs/keeping.h"
#include "service/jobs/schedule.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

constexpr seconds kSavingPause(1);
constexpr seconds kHousePause(60);
constexpr seconds kRenewalPause(5);
constexpr seconds kPositionsPause(1);
constexpr char kLoadMeasure[] = "load_seconds";
constexpr char kWorkMeasure[] = "seconds_per_work";
// Until something was measured.
constexpr double kLoadSeconds = 5.0;
constexpr double kSecondsPerWork = 1.0;

// What a worker answers that somebody else has told to go, in the middle of a job or before it. If nobody has cancelled
// the job, that counts as a crash.
bool was_told_to_go(ErrorCode code) { return code == ErrorCode::cancelled || code == ErrorCode::conflict; }

}  // namespace

Dispatcher::Dispatcher(DispatcherOptions options, JobStore& store, BlobStore& blobs, EventBus& bus, LiveJobs& live)
    : options_(std::move(options)),
      store_(store),
      blobs_(blobs),
      bus_(bus),
      live_(live),
      pool_(options_.pool, *this,
            [this](WorkerPool::Arrival arrival) {
              // std::function copies, and an arrival is large.
              post([this, shared = std::make_shared<WorkerPool::Arrival>(std::move(arrival))] {
                pool_.receive(std::move(*shared), SteadyTime::clock::now());
              });
            }),
      load_seconds_(store.measure(kLoadMeasure).value_or(std::nullopt).value_or(kLoadSeconds)),
      seconds_per_work_(store.measure(kWorkMeasure).value_or(std::nullopt).value_or(kSecondsPerWork)) {
  thread_ = std::thread([this] { serve(); });
}

Dispatcher::~Dispatcher() {
  drain(SteadyTime::clock::now());
  thread_.join();
}

// --- The thread and the others ---

void Dispatcher::post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  changed_.notify_all();  // the thread, or those that wait for its end
}

void Dispatcher::wake() {
  post([] {});
}

void Dispatcher::cancelled(const JobView& job) {
  post([this, job] {
    if (is_finished(job.status)) {
      positions_changed_ = true;
      tell_end(job.id, job.status, job.failure);
    } else {
      pool_.cancel(fmt::format("{}-{}", job.id, job.attempt), SteadyTime::clock::now());
    }
  });
}

void Dispatcher::ask(RequestBody body, WorkerPool::Answer answer) {
  post([this, body = std::move(body), answer = std::move(answer)] { pool_.ask(body, answer); });
}

void Dispatcher::load(const std::string& model, WorkerPool::Done done) {
  post([this, model, done = std::move(done)] { pool_.load(model, done); });
}

void Dispatcher::unload(const std::string& model, WorkerPool::Done done) {
  post([this, model, done = std::move(done)] { pool_.unload(model, done); });
}

void Dispatcher::drain(SteadyTime deadline) {
  draining_ = true;
  post([this, deadline] { drain_deadline_ = std::min(deadline, drain_deadline_.value_or(deadline)); });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return done_; });
}

Tally Dispatcher::tally() const {
  const std::lock_guard lock(mutex_);
  return tally_;
}

std::vector<WorkerStats> Dispatcher::workers() const {
  const std::lock_guard lock(mutex_);
  return workers_;
}

std::optional<std::string> Dispatcher::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

void Dispatcher::serve() {
  while (!done_) {
    wait_for_tasks();
    const SteadyTime now = SteadyTime::clock::now();
    pool_.tick(now);
    if (!unsaved_.empty() && now >= next_saving_) {
      std::erase_if(unsaved_, [this](const Saving& saving) { return try_save(saving); });
      next_saving_ = now + kSavingPause;
    }
    dispatch(now);
    keep_house(now);
    if (drain_deadline_) drain_some(now);
    note_workers();
  }
}

SteadyTime Dispatcher::next_due() const {
  SteadyTime next = std::min(pool_.next_due(), next_house_);
  if (!unsaved_.empty()) next = std::min(next, next_saving_);
  if (!running_.empty()) next = std::min(next, next_renewal_);
  if (positions_changed_) next = std::min(next, next_positions_);
  if (drain_deadline_ && !stop_told_) next = std::min(next, *drain_deadline_);
  return next;
}

void Dispatcher::wait_for_tasks() {
  std::deque<std::function<void()>> tasks;
  {
    const SteadyTime due = next_due();
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, due, [this] { return !tasks_.empty(); });
    tasks.swap(tasks_);
  }
  for (const std::function<void()>& task : tasks) task();
}

void Dispatcher::note_workers() {
  std::vector<WorkerStats> workers = pool_.stats();
  for (WorkerStats& worker : workers) {
    const auto running = running_.find(worker.job);
    if (running != running_.end()) worker.job = running->second.job.id;
  }
  const std::lock_guard lock(mutex_);
  workers_ = std::move(workers);
  trouble_.reset();
  if (!pool_.any_ready()) trouble_ = pool_.last_trouble().empty() ? "no worker is ready yet" : pool_.last_trouble();
}

// --- Starting ---

void Dispatcher::dispatch(SteadyTime now) {
  if (draining_) return;
  Scheduling scheduling{.queues = {}, .workers = pool_.sights(now), .load_seconds = load_seconds_};
  for (std::size_t worker = 0; worker < scheduling.workers.size(); ++worker) {
    if (!scheduling.workers[worker].idle) continue;
    Result<std::vector<ModelQueue>> queues = store_.queues();
    if (!queues) return options_.log(LogLevel::error, queues.error().message);
    scheduling.queues = std::move(*queues);
    for (ModelQueue& queue : scheduling.queues) queue.backlog *= seconds_per_work_;
    if (scheduling.queues.empty()) return;
    const std::optional<std::string> model = choose_model(scheduling, worker);
    if (!model) continue;
    const std::vector<std::string>& warm = scheduling.workers[worker].warm;
    const bool cold = std::find(warm.begin(), warm.end(), *model) == warm.end();
    const int most = batch_for(scheduling, *model, options_.batch);
    if (start_jobs({.worker = worker, .model = *model, .cold = cold, .most = most}, now)) {
      scheduling.workers = pool_.sights(now);
    }
  }
}

bool Dispatcher::start_jobs(const Start& start, SteadyTime now) {
  Result<std::vector<Claim>> claims = store_.claim({.model = start.model,
                                                    .node = options_.node,
                                                    .worker = static_cast<int>(start.worker),
                                                    .most = start.most,
                                                    .now = WallTime::clock::now()});
  if (!claims) {
    reaper_.store_failed(now);
    options_.log(LogLevel::error, claims.error().message);
    return false;
  }
  positions_changed_ = true;
  if (claims->empty()) return false;
  std::vector<PoolJob> jobs;
  std::vector<std::string> ids;
  for (Claim& claim : *claims) {
    ids.push_back(claim.job.id);
    jobs.push_back(begin(std::move(claim), start.cold && jobs.empty(), now));
  }
  pool_.run(start.worker, std::move(jobs), now);
  next_renewal_ = now + kRenewalPause;
  for (const std::string& id : ids) publish(id, JobEventKind::started);
  return true;
}

// Notes the job as running.
// NOLINTNEXTLINE(performance-unnecessary-value-param): its parts are moved
PoolJob Dispatcher::begin(Claim claim, bool cold, SteadyTime now) {
  auto& [job, spec] = claim;
  const std::string request_id = fmt::format("{}-{}", job.id, job.attempt);
  PoolJob pool_job{
      .request_id = request_id, .model = job.model, .request = {.spec = spec, .job = job.options, .warnings = {}}};
  const std::string_view extension = spec.output.format == ImageFormat::jpeg ? "jpg" : name_of(spec.output.format);
  pool_job.request.spec.output.path = fmt::format("{}/picture.{}", request_id, extension);
  live_.set(job.id, job.attempt, {});
  if (job.attempt == 1) {
    const std::lock_guard lock(mutex_);
    tally_.queue_wait.add(std::chrono::duration<double>(*job.started - job.created).count());
  }
  running_.emplace(request_id, Running{.job = std::move(job), .spec = std::move(spec), .started = now, .cold = cold});
  return pool_job;
}

// --- What workers tell ---

std::optional<Dispatcher::Running> Dispatcher::take(const std::string& request_id) {
  auto node = running_.extract(request_id);
  return node ? std::optional(std::move(node.mapped())) : std::nullopt;
}

void Dispatcher::on_progress(const std::string& request_id, const Progress& progress) {
  const auto running = running_.find(request_id);
  if (running == running_.end()) return;
  JobView& job = running->second.job;
  live_.set(job.id, job.attempt, progress);
  job.progress = progress;
  const std::string preview = std::exchange(job.progress.preview, {});
  if (!bus_.has_listeners(job.id)) return;
  bus_.publish(event_of(JobEventKind::progress, job));
  if (!preview.empty()) publish_preview(job, preview);
}

void Dispatcher::publish_preview(const JobView& job, const std::string& data_uri) {
  const Result<std::string> jpeg = decode_base64(std::string_view(data_uri).substr(data_uri.find(',') + 1));
  if (!jpeg) return options_.log(LogLevel::warning, "a worker's preview is no data: URI: " + jpeg.error().message);
  JobEvent event = event_of(JobEventKind::preview, job);
  event.preview = *jpeg;
  bus_.publish(event);
}

void Dispatcher::on_answer(const std::string& request_id, Response response) {
  const std::optional<Running> running = take(request_id);
  if (!running) return;  // it was given back
  if (response.refusal && was_told_to_go(response.refusal->error.code)) {
    const Result<std::optional<JobView>> job = store_.get(running->job.id);
    if (job && *job && !(*job)->cancel_asked) {
      return save(GivingBack{.job = running->job.id,
                             .attempt = running->job.attempt,
                             .crash = response.refusal->error.message,
                             .now = WallTime::clock::now()});
    }
  }
  live_.set_storing(running->job.id);
  save(ending_of(*running, request_id, std::move(response)));
}

void Dispatcher::on_loss(const std::string& request_id, Loss loss, const std::string& cause) {
  const std::optional<Running> running = take(request_id);
  if (!running) return;
  const JobView& job = running->job;
  const WallTime now = WallTime::clock::now();
  if (loss == Loss::crashed) {
    {
      const std::lock_guard lock(mutex_);
      ++tally_.crashes;
    }
    return save(GivingBack{.job = job.id, .attempt = job.attempt, .crash = cause, .now = now});
  }
  if (loss == Loss::disturbed) {
    return save(GivingBack{.job = job.id, .attempt = job.attempt, .crash = {}, .now = now});
  }
  const bool cancelled = loss == Loss::cancelled;
  Ending ending{.job = job.id, .attempt = job.attempt, .now = now};
  ending.status = cancelled ? JobStatus::cancelled : JobStatus::failed;
  ending.failure = Refusal{{cancelled ? ErrorCode::cancelled : ErrorCode::timed_out, cause}, {}};
  save(std::move(ending));
}

// --- Ending ---

Ending Dispatcher::ending_of(const Running& running, const std::string& request_id, Response response) {
  Ending ending{.job = running.job.id, .attempt = running.job.attempt};
  ending.warnings = std::move(response.warnings);
  if (response.refusal) {
    ending.failure = std::move(response.refusal);
    if (ending.failure->error.code == ErrorCode::cancelled) ending.status = JobStatus::cancelled;
  } else if (auto* generated = std::get_if<Generated>(&response.data)) {
    keep(running, request_id, std::move(*generated), ending);
  } else {
    ending.failure = Refusal{{ErrorCode::internal, "the worker answered with something else than pictures"}, {}};
  }
  ending.now = WallTime::clock::now();
  return ending;
}

void Dispatcher::keep(const Running& running, const std::string& request_id, Generated generated, Ending& ending) {
  Result<KeptPictures> kept = keep_pictures(folder_of(request_id), generated, blobs_);
  if (!kept) {
    ending.failure = Refusal{kept.error(), {}};
    return;
  }
  ending.status = JobStatus::succeeded;
  ending.pictures = std::move(kept->pictures);
  ending.control_maps = std::move(kept->control_maps);
  save_as_asked(running, ending);
  learn(running, generated);
  ending.metrics = std::move(generated.processing_metrics);
}

// Also to where the request's save_path says. The pictures are made: a copy that cannot be written is a warning.
void Dispatcher::save_as_asked(const Running& running, Ending& ending) {
  const Result<std::optional<SavePlan>> plan = plan_saving(options_.outputs, running.spec, running.job.id);
  if (!plan) return ending.warnings.push_back(plan.error().message);
  if (!*plan) return;
  const auto copy = [&](Picture& picture, const fs::path& path) {
    if (const Result<void> saved = save_copy(blobs_, picture, path); !saved) {
      ending.warnings.push_back("save_path: " + saved.error().message);
    } else {
      picture.saved = path.string();
    }
  };
  for (std::size_t i = 0; i < ending.pictures.size(); ++i) {
    copy(ending.pictures[i], (*plan)->picture(i, ending.pictures.size()));
  }
  for (std::size_t i = 0; i < ending.control_maps.size(); ++i) copy(ending.control_maps[i], (*plan)->control_map(i));
}

// How long things take, for the next ones.
void Dispatcher::learn(const Running& running, const Generated& generated) {
  constexpr double kNewPart = 0.2;  // of a moving average
  const auto mix = [](double old, double measured) { return old + kNewPart * (measured - old); };
  const std::lock_guard lock(mutex_);
  for (const StageSeconds& stage : generated.processing_metrics.stages) {
    tally_.stages[stage.name].add(stage.seconds);
    if (stage.name == "load" && running.cold) load_seconds_ = mix(load_seconds_, stage.seconds);
  }
  if (running.cold) ++tally_.model_loads;
  tally_.pictures += generated.generated_images.size();
  tally_.steps += static_cast<std::uint64_t>(running.spec.steps) * generated.generated_images.size();
  seconds_per_work_ = mix(seconds_per_work_, generated.processing_metrics.inference_time / work_of(running.spec));
  tally_.run.add(std::chrono::duration<double>(SteadyTime::clock::now() - running.started).count());
}

void Dispatcher::save(Saving saving) {
  if (try_save(saving)) return;
  reaper_.store_failed(SteadyTime::clock::now());
  next_saving_ = SteadyTime::clock::now() + kSavingPause;
  unsaved_.push_back(std::move(saving));
}

// Whether the store has it now.
bool Dispatcher::try_save(const Saving& saving) {
  return std::visit(Overloaded{[this](const Ending& ending) { return save_ending(ending); },
                               [this](const GivingBack& giving_back) { return save_giving_back(giving_back); }},
                    saving);
}

bool Dispatcher::save_ending(const Ending& ending) {
  const Result<Finish> finish = store_.finish(ending);
  if (!finish) {
    options_.log(LogLevel::error,
                 fmt::format("the end of job {} cannot be kept yet: {}", ending.job, finish.error().message));
    return false;
  }
  std::error_code ignored;  // the next start cleans up
  fs::remove_all(folder_of(fmt::format("{}-{}", ending.job, ending.attempt)), ignored);
  live_.erase(ending.job);
  if (*finish == Finish::stale) {
    std::vector<std::string> blobs;
    for (const Picture& picture : ending.pictures) blobs.push_back(picture.blob);
    for (const Picture& map : ending.control_maps) blobs.push_back(map.blob);
    remove_blobs(blobs);
    return true;
  }
  tell_end(ending.job, ending.status, ending.failure);
  return true;
}

bool Dispatcher::save_giving_back(const GivingBack& giving_back) {
  const Result<GivenBack> given = store_.give_back(giving_back);
  if (!given) {
    options_.log(LogLevel::error,
                 fmt::format("job {} cannot be queued again yet: {}", giving_back.job, given.error().message));
    return false;
  }
  std::error_code ignored;  // the next start cleans up
  fs::remove_all(folder_of(fmt::format("{}-{}", giving_back.job, giving_back.attempt)), ignored);
  live_.erase(giving_back.job);
  positions_changed_ = true;
  if (*given != GivenBack::ended) {
    publish(giving_back.job, JobEventKind::queued);
    return true;
  }
  if (const Result<std::optional<JobView>> job = store_.get(giving_back.job); job && *job) {
    tell_end(giving_back.job, (*job)->status, (*job)->failure);
  }
  return true;
}

void Dispatcher::remove_blobs(const std::vector<std::string>& blobs) {
  for (const std::string& blob : blobs) {
    if (const Result<void> removed = blobs_.remove(blob); !removed) {
      options_.log(LogLevel::warning, removed.error().message);
    }
  }
}

// --- Telling ---

void Dispatcher::tell_end(const std::string& job, JobStatus status, const std::optional<Refusal>& failure) {
  {
    const std::lock_guard lock(mutex_);
    ++tally_.ended[status];
    if (failure) ++tally_.failures[failure->error.code];
  }
  publish(job, JobEventKind::ended);
  options_.on_ended();
}

void Dispatcher::publish(const std::string& job, JobEventKind kind) {
  if (!bus_.has_listeners(job)) return;
  Result<std::optional<JobView>> view = store_.get(job);
  if (!view || !*view) return;
  live_.complete(**view);
  if (kind == JobEventKind::queued) (*view)->position = store_.position(job).value_or(std::nullopt);
  bus_.publish(event_of(kind, **view));
}

void Dispatcher::publish_positions() {
  std::map<std::string, int> positions;
  for (const std::string& job : bus_.listened()) {
    const Result<std::optional<int>> position = store_.position(job);
    if (!position || !*position) continue;
    positions[job] = **position;
    const auto before = positions_.find(job);
    if (before == positions_.end() || before->second != **position) publish(job, JobEventKind::queued);
  }
  positions_ = std::move(positions);
}

// --- Now and then ---

void Dispatcher::keep_house(SteadyTime now) {
  if (positions_changed_ && now >= next_positions_) {
    positions_changed_ = false;
    next_positions_ = now + kPositionsPause;
    publish_positions();
  }
  if (running_.empty()) {
    reaper_.idle();
  } else if (now >= next_renewal_) {
    next_renewal_ = now + kRenewalPause;
    keep_lease(now);
  }
  if (now < next_house_) return;
  next_house_ = now + kHousePause;
  Retention retention{.before = {}, .max_bytes = options_.keep_bytes};
  if (options_.keep_for) {
    // A clock that is set forward by mistake must not let everything go: only time that has passed counts.
    const auto passed = std::chrono::duration_cast<WallTime::duration>(now - started_);
    retention.before = std::min(WallTime::clock::now(), wall_started_ + passed) - *options_.keep_for;
  }
  const Result<Reaped> reaped = store_.reap(retention);
  if (!reaped) return options_.log(LogLevel::error, reaped.error().message);
  remove_blobs(reaped->blobs);
  if (reaped->jobs > 0) next_house_ = now;  // there may be more
  for (const auto& [name, value] : {std::pair{kLoadMeasure, load_seconds_}, {kWorkMeasure, seconds_per_work_}}) {
    [[maybe_unused]] const Result<void> set =
        store_.set_measure(name, value);  // a guess that is lost is measured again
  }
}

// Renews this node's lease, and looks whether others have let theirs go.
void Dispatcher::keep_lease(SteadyTime now) {
  if (const Result<void> renewed = store_.renew(options_.node, WallTime::clock::now()); !renewed) {
    reaper_.store_failed(now);
    return options_.log(LogLevel::error, renewed.error().message);
  }
  reaper_.renewed(now);
  if (!reaper_.may_reap(now)) return;
  const Result<std::vector<std::string>> orphans = store_.reap_orphans(options_.node, WallTime::clock::now());
  if (!orphans) {
    reaper_.store_failed(now);
    return options_.log(LogLevel::error, orphans.error().message);
  }
  for (const std::string& job : *orphans) publish(job, JobEventKind::queued);
}

void Dispatcher::drain_some(SteadyTime now) {
  if (!stop_told_ && (running_.empty() || now >= *drain_deadline_)) {
    stop_told_ = true;
    for (auto& [request_id, running] : std::exchange(running_, {})) {
      save(GivingBack{
          .job = running.job.id, .attempt = running.job.attempt, .crash = {}, .now = WallTime::clock::now()});
    }
    pool_.stop(now);
  }
  if (!stop_told_ || !pool_.stopped()) return;
  const std::lock_guard lock(mutex_);
  done_ = true;
  changed_.notify_all();
}

}  // namespace darkroom
