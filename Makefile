# tlspolicyd. The two that matter: `make run` and `make test`.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X main.version=$(VERSION)
LINT     = $(GO) tool -modfile=.ci/tools/golangci-lint.mod golangci-lint
VULN     = $(GO) tool -modfile=.ci/tools/govulncheck.mod govulncheck
FUZZTIME ?= 60s
KILLS   ?= 500
POLICIES ?= 1000000

.PHONY: build run test unit lint e2e demo crash scale fleet bench setup fuzz vuln packages clean

build: bin/tlspolicyd ## the daemon, static, in bin/

bin/tlspolicyd: $(shell find cmd socketmap resolver cache internal -name '*.go' -o -name '*.yaml') go.mod go.sum
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/tlspolicyd

run: build ## build, and run with no configuration file
	bin/tlspolicyd serve

test: ## everything that can be tested here; as root also installs what that needs
	.ci/test

unit: ## unit and integration tests
	$(GO) vet ./...
	$(GO) test -race -shuffle=on ./...

lint: ## pinned linters
	$(LINT) run ./...

setup: ## as root: install what the end-to-end tests need, and build their trees once
	test/setup.sh
	$(GO) mod download -modfile=.ci/tools/nfpm.mod

e2e: ## as root: real Postfix, Unbound, Knot in namespaces of their own
	$(GO) test -race -shuffle=on -tags e2e -count=1 -timeout 20m ./...

demo: ## as root: an attacker, and what becomes of mail with and without tlspolicyd
	@$(MAKE) -s --no-print-directory setup
	@GO='$(GO)' test/demo/run.sh

crash: ## as root: kill -9 the daemon KILLS times under load, and count what it forgot
	$(GO) test -tags e2e -count=1 -v -timeout 2h ./test/crash -kills=$(KILLS)

scale: ## as root: the daemon with POLICIES policies in its store; see docs/performance.md
	$(GO) test -tags e2e -count=1 -v -timeout 2h ./test/scale -policies=$(POLICIES)

fleet: ## as root: three relays with 1,000 domains and one Redis; see docs/fleet.md
	$(GO) test -tags e2e -count=1 -v -timeout 1h ./test/fleet -domains 1000 -period 90s -periods 4 -most 1.1

bench: ## as root: what answers, first questions and memory cost; see docs/performance.md
	$(GO) test -tags e2e -run '^$$' -bench 'Hit|Tail|Cold|Hanging' -benchtime 1x -timeout 2h ./test/perf
	$(GO) test -tags e2e -run '^$$' -bench Miss -benchtime 100x ./test/perf
	$(GO) test -tags e2e -run '^$$' -bench Queries -benchtime 20x ./test/perf
	$(GO) test -run '^$$' -bench 'Path|Socket' -count 10 ./test/perf
	$(GO) test -run '^$$' -bench Memory -benchtime 1x -timeout 1h ./test/perf

fuzz: ## every fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

vuln: ## known vulnerabilities; needs the database on the network
	$(VULN) ./...

packages: ## deb and rpm in dist/, for amd64 and arm64
	packaging/build.sh

clean:
	rm -rf bin dist
