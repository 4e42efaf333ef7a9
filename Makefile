# Every target is one line of the `crm` command line, which the first of them installs.
SHELL := /bin/sh
.DEFAULT_GOAL := help
CRM = $$(python3 home-server-infra/local/bootstrap.py)

.PHONY: help demo up down reset status logs audit test test-fast test-infra drill drill-infra lint bench
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 20
demo: ## the main job, set-up included: two days of history, a minute live, through to the marts
	@crm=$(CRM) && "$$crm" demo
up: ## start the stack
	@crm=$(CRM) && "$$crm" up
down: ## stop the stack and keep its data
	@crm=$(CRM) && "$$crm" down
reset: ## stop the stack and delete its data (asks first)
	@crm=$(CRM) && "$$crm" reset
status: ## what runs, where, and where its log is
	@crm=$(CRM) && "$$crm" status
logs: ## last lines of every component's log
	@crm=$(CRM) && "$$crm" logs
audit: ## count every store and compare
	@crm=$(CRM) && "$$crm" audit
test: ## all tests, on stacks of their own; make test PART=lake for one part, PART=--changed for what changed
	@crm=$(CRM) && "$$crm" test $(PART)
test-fast: ## tests that need no stack
	@crm=$(CRM) && "$$crm" test --fast
test-infra: ## tests of the playbooks on test hosts (root)
	@crm=$(CRM) && "$$crm" test-infra
drill: ## longer tests of the way of the data: spikes, kills, stores away or half dead, the other store
	@crm=$(CRM) && "$$crm" drill
drill-infra: ## longer tests of the playbooks: other roles, ZooKeeper, migration, restore, site (root)
	@crm=$(CRM) && "$$crm" drill-infra
lint: ## formatters, linters, types, derived files
	@crm=$(CRM) && "$$crm" lint
bench: ## benchmarks; make bench B=startup for one
	@crm=$(CRM) && "$$crm" bench $(B)
