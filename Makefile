# Everything a person or CI does with the repository. `make help` lists it.

GO          ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
RELEASE     := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS     := -X main.release=$(RELEASE)

.PHONY: help build man cross page packages run test soak lint bench bench-peers bench-compare fuzz fuzz-short tools clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: page ## bin/pulse, with the page at /, and bin/pulse-relay, the agent
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/pulse ./cmd/pulse
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/pulse-relay ./cmd/pulse-relay

man: build ## the manual pages, into bin/man
	mkdir -p bin/man
	bin/pulse man > bin/man/pulse.1
	bin/pulse-relay man > bin/man/pulse-relay.1

# The agent runs on all of these; the server on linux and darwin.
AGENT_SYSTEMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 freebsd/amd64
AGENT_PACKAGES := ./cmd/pulse-relay ./internal/agent ./internal/command ./relaywire ./relaywire/relay/...
cross: ## build and vet the agent for every system that it runs on
	@for system in $(AGENT_SYSTEMS); do \
	  echo "$$system"; export GOOS=$${system%/*} GOARCH=$${system#*/} CGO_ENABLED=0; \
	  $(GO) build -o /dev/null ./cmd/pulse-relay && $(GO) vet $(AGENT_PACKAGES) || exit 1; done

CONSOLE := query/console
page: $(CONSOLE)/dist/index.html.gz ## the page at /, bundled from query/console/src with npm

$(CONSOLE)/dist/index.html.gz: $(CONSOLE)/node_modules/.package-lock.json $(CONSOLE)/build.mjs $(wildcard $(CONSOLE)/src/*)
	cd $(CONSOLE) && npm run --silent check && npm run --silent build

$(CONSOLE)/node_modules/.package-lock.json: $(CONSOLE)/package-lock.json
	tools/install.sh npm
	cd $(CONSOLE) && npm ci --silent --no-audit --no-fund

packages: page ## deb, rpm, container image, archives, SBOM and checksums, into bin/packages
	cd tools/packages && $(GO) run .
	@ls -sh1 bin/packages

run: build ## the server with the embedded InfluxDB engine, collecting this host's own stats
	@exec bin/pulse -s --influx-address embedded --host-stats --poll-interval 5

tools: ## the servers that the tests run against, into ~/.cache/pulse-tools
	tools/install.sh

test: tools page ## every test, with the race detector
	$(GO) test -race -parallel 3 -timeout 40m ./...
	$(GO) test -run TestReadOfAnything ./projector/influx/embedded # the engine races with itself: see there
	cd tools/packages && $(GO) test . # packages for this machine, installed into a small Debian

# How long a soak is: rounds of kill -9, of random trouble over the whole server
# (PULSE_SEED repeats one), seconds for which the server is suspended, and runs of
# every room's tests of crashes and chance. Without the race detector, whose memory
# would be measured instead of the server's: how many relays the hostile fleet has; how
# many agents are killed with their server, and for how many seconds they are cut off.
KILL_ROUNDS     ?= 100
PROPERTY_ROUNDS ?= 50
SOAK_COUNT      ?= 20
SUSPEND_SECONDS ?= 60
SPOOL_AGENTS    ?= 200
SPOOL_SECONDS   ?= 600
HOSTILE_RELAYS  ?= 10000
soak: tools page ## the tests that kill, fill and break, for hours; KILL_ROUNDS (100), PROPERTY_ROUNDS (50), SUSPEND_SECONDS (60), HOSTILE_RELAYS (10000), SPOOL_AGENTS (200), SPOOL_SECONDS (600), SOAK_COUNT (20)
	PULSE_KILL_ROUNDS=$(KILL_ROUNDS) PULSE_PROPERTY_ROUNDS=$(PROPERTY_ROUNDS) PULSE_SUSPEND_SECONDS=$(SUSPEND_SECONDS) \
	$(GO) test -race -v -timeout 6h \
	  -run 'TestKill9|TestAlertsKill9|TestAnythingGoes|TestOutages|TestStop|TestDiskFull|TestDamagedDataDir|TestOverrideOverRestart|TestSuspend|TestOutOfFiles|TestLittleMemory' ./cmd/pulse
	PULSE_HOSTILE_RELAYS=$(HOSTILE_RELAYS) $(GO) test -v -timeout 1h -run 'TestHostile' ./cmd/pulse
	PULSE_SPOOL_AGENTS=$(SPOOL_AGENTS) PULSE_SPOOL_SECONDS=$(SPOOL_SECONDS) PULSE_KILL_ROUNDS=30 $(GO) test -v -timeout 1h -run 'TestSpoolLosesNothing' ./cmd/pulse
	PULSE_HUB_RELAYS=1000 PULSE_HUB_SECONDS=60 PULSE_KILL_ROUNDS=30 $(GO) test -v -timeout 1h -run 'TestHub' ./cmd/pulse
	$(GO) test -race -timeout 6h -count $(SOAK_COUNT) -run 'Kill|Damage|EqualARecount|Property|Random|Anywhere|DiskFull|HalfWritten' \
	  ./journal ./ingest ./migrations ./kapa/... ./projector/...

lint: cross ## gofmt, go vet, staticcheck, and the agent's builds for other systems
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "gofmt: the files above need formatting"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	cd tools/packages && $(GO) vet . && $(GO) run $(STATICCHECK) .

FUZZTIME ?= 10m
FUZZERS  ?= 1
fuzz: ## every fuzz target, FUZZTIME (10m) each, FUZZERS (1) at a time
	@for package in $$(grep -rl --include=*_test.go '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  grep -ho '^func Fuzz[A-Za-z0-9_]*' $$package/*_test.go | cut -c6- | sed "s|^|$$package |"; done | \
	xargs -P $(FUZZERS) -L 1 sh -c '$(GO) test -run "^$$" -fuzz "^$$1$$" -fuzztime $(FUZZTIME) -parallel $$(( ($$(nproc) + $(FUZZERS) - 1) / $(FUZZERS) )) $$0 || exit 255'

fuzz-short: ## the same, 10 s each, as many at a time as there are processors
	@$(MAKE) --no-print-directory fuzz FUZZTIME=10s FUZZERS=$$(nproc)

bench: tools ## the budgets: each figure beside its limit, from the same run; BENCH='-part codec', BENCH=-long
	$(GO) run ./internal/bench $(BENCH)

bench-peers: ## the same fleet against Pulse, VictoriaMetrics, Prometheus and InfluxDB, about 17 minutes; PEERS='-sizes 1000x10@1s'
	tools/install.sh influxd-1.8 victoria-metrics prometheus
	$(GO) run ./internal/bench/peers $(PEERS)

COUNT ?= 6
bench-compare: ## the Go benchmarks of the revision OLD and of this tree, COUNT (6) times in turns, through benchstat
	tools/bench-compare.sh '$(OLD)' $(COUNT)

clean: ## what the build left; the data dir stays
	rm -rf bin $(CONSOLE)/node_modules $(CONSOLE)/dist/assets $(CONSOLE)/dist/index.html.gz
