# Every target does its own set-up. `make help` lists them.

GO      ?= go
PREFIX  ?= /usr/local
DESTDIR ?=
# SHORT=1 is a quick look in place of the whole comparison; NOTE is kept with
# the results.
SHORT   ?=
NOTE    ?=
# What `make profile` looks at: a method (nat, ipip, gue, l2), and how many flows
# (0: endless new ones).
METHOD  ?= nat
FLOWS   ?= 10000
# What `make microbench` runs: a regular expression of benchmarks, and packages.
BENCH   ?= .
PKG     ?= ./...
# How long each fuzz target runs in `make fuzz`, and in `make test`.
FUZZTIME      ?= 2m
FUZZTIME_TEST ?= 3s
# HOLD=1 leaves the demo running.
HOLD    ?=

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: kube-gateway-conformance cli man help build demo cluster-demo cluster-sim machines kube-servers kube-conformance kube-latency test race bench attack profile microbench fuzz lint generate install

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/fairlead
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X fairlead/cmd/fairlead/internal/node.Version=$(VERSION)' -o bin/fairlead ./cmd/fairlead

demo: need-root build ## show all methods at work, in namespaces of this machine (HOLD=1 leaves it running); needs root
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/demo ./perf/demo
	@exec bin/demo -fairlead bin/fairlead $(if $(filter-out 0,$(HOLD)),-hold)

cluster-demo: need-root build ## show what survives when nodes of a cluster die and drain, in namespaces of this machine; needs root
	@.ci/need-routers
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/clusterdemo ./perf/clusterdemo
	@exec bin/clusterdemo -fairlead bin/fairlead

machines: ## check the Vagrantfile and the scripts that set up the lab's machines
	@.ci/need-vagrant
	@cd '$(CURDIR)' && VAGRANT_HOME="$${VAGRANT_HOME:-$$(mktemp -d)}" vagrant validate --ignore-provider
	shellcheck -x perf/machines/*.sh perf/machines/start-unit

kube-servers: ## build the servers of a Kubernetes control plane, which tests run, into bin/kube, and helm (minutes, the first time)
	@GO='$(GO)' perf/kube/build -l bin/kube
	@GO='$(GO)' perf/kube/helm/build

kube-conformance: need-root build ## have Kubernetes' own tests of LoadBalancer Services judge Fairlead, into perf/results/kubernetes-conformance.txt; needs root
	.ci/need-network-tools
	@GO='$(GO)' perf/kube/build -l bin/kube suites
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/conformance ./perf/kube/conformance
	@mkdir -p perf/results
	@bin/conformance -fairlead bin/fairlead -suites bin/kube -log bin/conformance.log > perf/results/kubernetes-conformance.txt; \
		status=$$?; cat perf/results/kubernetes-conformance.txt; exit $$status

test: need-root lint machines kube-servers ## run the linters, all tests, and every fuzz target for a short time; needs root
	.ci/need-prometheus
	.ci/need-systemd
	@.ci/need-routers
	.ci/need-network-tools
	$(GO) test -count=1 -timeout=30m ./...
	FUZZTIME='$(FUZZTIME_TEST)' GO='$(GO)' .ci/fuzz ./...

race: need-root kube-servers ## run all tests with the race detector; needs root and a C compiler
	.ci/need-prometheus
	.ci/need-systemd
	@.ci/need-routers
	.ci/need-network-tools
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout=20m ./...

cluster-sim: ## run clusters of 10 and of 100 nodes in one process, into perf/results/cluster.txt
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/clustersim ./perf/clustersim
	@mkdir -p perf/results
	@bin/clustersim -nodes 10,100 -quiet 20s -churn 20s > perf/results/cluster.txt
	@cat perf/results/cluster.txt

SHORT_RUN = $(filter-out 0,$(SHORT))

bench: need-root build ## compare ways of forwarding side by side, into perf/results (SHORT=1, NOTE=text); needs root
	@perf/bench/need-packages
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/bench ./perf/bench
	@mkdir -p perf/results
	@exec bin/bench -fairlead bin/fairlead $(if $(SHORT_RUN),-short) -note '$(NOTE)' \
		-command 'make bench$(if $(SHORT_RUN), SHORT=1)' -out perf/results/$(if $(SHORT_RUN),short,full)

attack: need-root build ## flood a service that a thousand connections use, into perf/results/attack.txt; needs root
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/measure ./perf/attack/measure
	@mkdir -p perf/results
	@bin/measure -fairlead bin/fairlead > perf/results/attack.txt
	@cat perf/results/attack.txt

kube-latency: need-root build kube-servers ## measure from an EndpointSlice to the first packet, into perf/results/kubernetes-latency.txt; needs root
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/kubelatency ./perf/kube/latency
	@mkdir -p perf/results
	@bin/kubelatency -fairlead bin/fairlead > perf/results/kubernetes-latency.txt
	@cat perf/results/kubernetes-latency.txt

kube-gateway-conformance: need-root kube-servers ## run the Gateway API's own tests of what Fairlead claims, with real pods; needs root
	$(GO) test -tags conformance -count=1 -v -timeout=30m -run TestConformance ./perf/kube/gateway

profile: need-root build ## record where the data process spends its CPU time, into perf/results (METHOD=nat, FLOWS=10000); needs root
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/bench ./perf/bench
	@mkdir -p perf/results
	@bin/bench -fairlead bin/fairlead -profile '$(METHOD)' -flows '$(FLOWS)' -command 'make profile METHOD=$(METHOD) FLOWS=$(FLOWS)' \
		-out 'perf/results/profile-$(METHOD).pb.gz' > 'perf/results/profile-$(METHOD).txt'
	@$(GO) tool pprof -top -nodecount=60 bin/fairlead 'perf/results/profile-$(METHOD).pb.gz' >> 'perf/results/profile-$(METHOD).txt' 2>/dev/null
	@cat 'perf/results/profile-$(METHOD).txt'

microbench: ## run Go benchmarks (BENCH=regexp, PKG=packages)
	$(GO) test -run='^$$' -bench='$(BENCH)' -benchmem -timeout=60m $(PKG)

fuzz: ## run every fuzz target for long (FUZZTIME=2m, PKG=packages)
	FUZZTIME='$(FUZZTIME)' GO='$(GO)' .ci/fuzz $(PKG)

lint: ## check formatting, vet, staticcheck and import rules
	@unformatted=$$(find . -name '*.go' -not -path './.git/*' -print0 | xargs -0 gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) tool depguard ./...

generate: ## rebuild the BPF objects from their C source (installs clang 14 by apt-get when it is missing)
	.ci/need-clang
	$(GO) generate ./xdp/... ./perf/bench
	$(MAKE) cli

cli: ## write docs/cli.md, the reference of all commands, anew
	CGO_ENABLED=0 $(GO) run ./cmd/fairlead reference > docs/cli.md

man: build ## write the manual pages into bin/man
	rm -rf bin/man
	bin/fairlead man bin/man

install: build ## install the binary, manual pages, the reference configuration and the systemd unit (PREFIX, DESTDIR)
	install -D -m 0755 bin/fairlead '$(DESTDIR)$(PREFIX)/sbin/fairlead'
	install -D -m 0644 configs/fairlead.toml '$(DESTDIR)$(PREFIX)/share/fairlead/fairlead.toml'
	bin/fairlead man '$(DESTDIR)$(PREFIX)/share/man/man8'
	install -d -m 0755 '$(DESTDIR)$(PREFIX)/share/bash-completion/completions'
	bin/fairlead completion bash > '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/fairlead'
	install -d -m 0755 '$(DESTDIR)/etc/systemd/system'
	sed 's|/usr/local/sbin|$(PREFIX)/sbin|g' configs/fairlead.service > '$(DESTDIR)/etc/systemd/system/fairlead.service'
	@echo "Write /etc/fairlead/fairlead.toml after $(PREFIX)/share/fairlead/fairlead.toml, and then:"
	@echo "  systemctl daemon-reload && systemctl enable --now fairlead"

.PHONY: need-root
need-root:
	@if [ "$$(id -u)" != 0 ]; then \
		echo "This needs root: it makes network namespaces and attaches XDP programs in them."; \
		echo "Nothing outside of these namespaces is changed. Run it again as root, for example with sudo."; \
		exit 1; \
	fi
