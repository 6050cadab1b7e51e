# Everything a person or CI does with the repository. `make help` lists it.

GO          ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
RELEASE     := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS     := -X main.release=$(RELEASE)

.PHONY: help build run test soak lint bench fuzz tools clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/pulse
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/pulse ./cmd/pulse

run: build ## the server with the embedded InfluxDB engine, collecting this host's own stats
	@exec bin/pulse -s --influx-address embedded --host-stats --poll-interval 5

tools: ## the servers that the tests run against, into ~/.cache/pulse-tools
	tools/install.sh

test: tools ## every test, with the race detector
	$(GO) test -race -timeout 20m ./...

# How long a soak is: rounds of kill -9, of random trouble over the whole server
# (PULSE_SEED repeats one), and runs of every room's tests of crashes and chance.
KILL_ROUNDS     ?= 100
PROPERTY_ROUNDS ?= 50
SOAK_COUNT      ?= 20
soak: tools ## the tests that kill, fill and break, for hours; KILL_ROUNDS (100), PROPERTY_ROUNDS (50), SOAK_COUNT (20)
	PULSE_KILL_ROUNDS=$(KILL_ROUNDS) PULSE_PROPERTY_ROUNDS=$(PROPERTY_ROUNDS) $(GO) test -race -v -timeout 6h \
	  -run 'TestKill9|TestAnythingGoes|TestOutages|TestStop|TestDiskFull|TestDamagedDataDir|TestOverrideOverRestart' ./cmd/pulse
	$(GO) test -race -timeout 6h -count $(SOAK_COUNT) -run 'Kill|Damage|EqualARecount|Property|Random|Anywhere|DiskFull|HalfWritten' \
	  ./journal ./ingest ./migrations ./kapa/... ./projector/...

lint: ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "gofmt: the files above need formatting"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

FUZZTIME ?= 10m
fuzz: ## every fuzz target in turn, FUZZTIME (10m) each
	@for package in $$(grep -rl --include=*_test.go '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$package/*_test.go | cut -c6-); do \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package || exit 1; done; done

bench: tools ## the budgets: each figure beside its limit, from the same run
	$(GO) run ./internal/bench

clean: ## what the build left; the data dir stays
	rm -rf bin
