{{/*
Who calls whom within the release, the one list that all NetworkPolicies are made from: {"flows": [{from, to, port}],
"components": […]}, as JSON.
*/}}
{{- define "catraca.flows" -}}
{{- $v := .Values -}}
{{- $flows := list
  (dict "from" "queue" "to" "inventory" "port" 50051)
  (dict "from" "queue" "to" "checkout" "port" 50051)
  (dict "from" "inventory" "to" "checkout" "port" 50051)
  (dict "from" "checkout" "to" "inventory" "port" 50051)
  (dict "from" "operator" "to" "queue" "port" 50051)
  (dict "from" "operator" "to" "checkout" "port" 50051) -}}
{{- $components := list "queue" "inventory" "checkout" "notifier" "operator" "prepare" -}}
{{- if include "catraca.made" . }}{{ $components = append $components "secrets" }}{{ end -}}
{{- if include "catraca.keepsTokens" . }}{{ $components = append $components "tokens" }}{{ end -}}
{{- if $v.edge.enabled -}}
  {{- $components = append $components "edge" -}}
  {{- range $service := list "queue" "inventory" "checkout" "notifier" -}}
    {{- $flows = append $flows (dict "from" "edge" "to" $service "port" 50051) -}}
  {{- end -}}
  {{- $flows = append $flows (dict "from" "edge" "to" "queue" "port" 8081) -}}
{{- end -}}
{{- if include "catraca.tested" . -}}
  {{- $components = append $components "test" -}}
  {{- range $service := list "queue" "inventory" "checkout" "notifier" -}}
    {{- $flows = append $flows (dict "from" "test" "to" $service "port" 50051) -}}
  {{- end -}}
{{- end -}}
{{- if $v.dev.redis.enabled -}}
  {{- $components = append $components "redis" -}}
  {{- range list "queue" "inventory" }}{{ $flows = append $flows (dict "from" . "to" "redis" "port" 6379) }}{{ end -}}
{{- end -}}
{{- if $v.dev.nats.enabled -}}
  {{- $components = append $components "nats" -}}
  {{- range list "queue" "inventory" "checkout" "notifier" "prepare" }}{{ $flows = append $flows (dict "from" . "to" "nats" "port" 4222) }}{{ end -}}
{{- end -}}
{{- if $v.dev.postgres.enabled -}}
  {{- $components = append $components "postgres" -}}
  {{- range list "checkout" "prepare" }}{{ $flows = append $flows (dict "from" . "to" "postgres" "port" 5432) }}{{ end -}}
{{- end -}}
{{- if $v.dev.issuer.enabled -}}
  {{- $components = append $components "issuer" -}}
  {{- range list "queue" "inventory" "checkout" "notifier" "edge" "tokens" "test" -}}
    {{- if has . $components }}{{ $flows = append $flows (dict "from" . "to" "issuer" "port" 8080) }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- if $v.dev.sandbox.enabled -}}
  {{- $components = append $components "sandbox" -}}
  {{- $flows = append $flows (dict "from" "checkout" "to" "sandbox" "port" 8090) -}}
  {{- $flows = append $flows (dict "from" "sandbox" "to" "checkout" "port" 8080) -}}
  {{- if has "test" $components }}{{ $flows = append $flows (dict "from" "test" "to" "sandbox" "port" 8090) }}{{ end -}}
{{- end -}}
{{- dict "flows" $flows "components" $components | toJson -}}
{{- end -}}

{{/* Which ports outside of the release a component calls, as JSON: lists of the names of values that have them. */}}
{{- define "catraca.outside" -}}
{{- $v := .root.Values -}}
{{- $ports := list -}}
{{- if and (has .component (list "queue" "inventory")) (not $v.dev.redis.enabled) }}{{ $ports = concat $ports $v.networkPolicy.redisPorts }}{{ end -}}
{{- if and (has .component (list "queue" "inventory" "checkout" "notifier" "prepare")) (not $v.dev.nats.enabled) }}{{ $ports = concat $ports $v.networkPolicy.natsPorts }}{{ end -}}
{{- if and (has .component (list "checkout" "prepare")) (not $v.dev.postgres.enabled) (not $v.postgres.cloudNativePG.enabled) }}{{ $ports = concat $ports $v.networkPolicy.postgresPorts }}{{ end -}}
{{- if and (has .component (list "queue" "inventory" "checkout" "notifier" "edge" "tokens")) (not $v.dev.issuer.enabled) }}
  {{- $ports = concat $ports $v.networkPolicy.httpPorts }}
  {{- $ports = append $ports (include "catraca.port" (ternary (include "catraca.tokenUrl" .root) (include "catraca.jwksUrl" .root) (eq .component "tokens"))) }}
{{- end -}}
{{- if and (eq .component "queue") $v.queue.settings.drand_urls }}{{ $ports = concat $ports $v.networkPolicy.httpPorts }}{{ end -}}
{{- if and (eq .component "checkout") (not $v.dev.sandbox.enabled) }}{{ $ports = append (concat $ports $v.networkPolicy.httpPorts) (include "catraca.port" (include "catraca.sandboxUrl" .root)) }}{{ end -}}
{{- if and (has .component (list "queue" "inventory" "checkout" "notifier")) $v.monitoring.tracing.endpoint }}{{ $ports = append (concat $ports $v.networkPolicy.otlpPorts) (include "catraca.port" $v.monitoring.tracing.endpoint) }}{{ end -}}
{{- $numbers := list -}}
{{- range $ports }}{{ $numbers = append $numbers (int .) }}{{ end -}}
{{- toJson ($numbers | uniq) -}}
{{- end -}}

{{/* The port of a URL, its scheme's where it has none. */}}
{{- define "catraca.port" -}}
{{- $url := urlParse . -}}
{{- if contains ":" $url.host }}{{ splitList ":" $url.host | last }}{{ else }}{{ ternary "443" "80" (eq $url.scheme "https") }}{{ end -}}
{{- end -}}
