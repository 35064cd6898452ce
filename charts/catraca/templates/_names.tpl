{{/* Names and labels. Every template that takes a component is given (dict "root" $ "component" "queue"). */}}

{{- define "catraca.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "catraca.name" -}}
{{ include "catraca.fullname" .root }}-{{ .component }}
{{- end -}}

{{/* What never changes, for selectors. The operator finds its Deployments and HPAs by the last two. */}}
{{- define "catraca.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/part-of: catraca
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "catraca.labels" -}}
{{ include "catraca.selector" . }}
app.kubernetes.io/name: catraca
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* PriorityClasses are the whole cluster's, so the namespace is in their names. */}}
{{- define "catraca.priority" -}}
{{ .root.Release.Namespace }}-{{ include "catraca.fullname" .root }}-{{ .of }}
{{- end -}}

{{- define "catraca.host" -}}
{{ include "catraca.name" . }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end -}}

{{/* gRPC's target for every replica of a service: its Service is headless, so each address is a replica. */}}
{{- define "catraca.target" -}}
dns:///{{ include "catraca.host" . }}:50051
{{- end -}}

{{- define "catraca.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* ---- Secrets: given, or made by the hook as <fullname>-<what> ---- */}}

{{- define "catraca.secret" -}}
{{- $given := dict
  "keys" .root.Values.keys.existingSecret
  "redis" .root.Values.redis.existingSecret
  "nats" .root.Values.nats.existingSecret
  "postgres" .root.Values.postgres.existingSecret
  "payment" .root.Values.payment.sandbox.existingSecret
  "issuer" .root.Values.identity.tokens.client.existingSecret
  "tokens" .root.Values.identity.tokens.existingSecret -}}
{{- get $given .what | default (printf "%s-%s" (include "catraca.fullname" .root) .what) -}}
{{- end -}}

{{/* Which Secrets the hook makes, separated by commas. */}}
{{- define "catraca.made" -}}
{{- $v := .Values -}}
{{- $made := list -}}
{{- if not $v.keys.existingSecret }}{{ $made = append $made "keys" }}{{ end -}}
{{- if and $v.dev.redis.enabled (not $v.redis.existingSecret) }}{{ $made = append $made "redis" }}{{ end -}}
{{- if and $v.dev.nats.enabled (not $v.nats.existingSecret) }}{{ $made = append $made "nats" }}{{ end -}}
{{- if and (or $v.dev.postgres.enabled $v.postgres.cloudNativePG.enabled) (not $v.postgres.existingSecret) }}{{ $made = append $made "postgres" }}{{ end -}}
{{- if not $v.payment.sandbox.existingSecret }}{{ $made = append $made "payment" }}{{ end -}}
{{- if and $v.dev.issuer.enabled (not $v.identity.tokens.client.existingSecret) }}{{ $made = append $made "issuer" }}{{ end -}}
{{- join "," $made -}}
{{- end -}}

{{/* Whether the stores that have to be prepared come with this release, and so after its hooks of installation. */}}
{{- define "catraca.storesInRelease" -}}
{{- if or .Values.dev.nats.enabled .Values.dev.postgres.enabled .Values.postgres.cloudNativePG.enabled }}true{{ end -}}
{{- end -}}

{{- define "catraca.keepsTokens" -}}
{{- if not .Values.identity.tokens.existingSecret }}true{{ end -}}
{{- end -}}

{{- define "catraca.tlsSecret" -}}
{{- $component := ternary "operator" .component (eq .component "test") -}}
{{- get .root.Values.tls.secrets $component | default (include "catraca.name" (dict "root" .root "component" (printf "%s-tls" $component))) -}}
{{- end -}}

{{/* ---- addresses that have a development default ---- */}}

{{- define "catraca.issuerUrl" -}}
{{- if .Values.identity.issuer -}}
{{ .Values.identity.issuer }}
{{- else -}}
http://{{ include "catraca.host" (dict "root" . "component" "issuer") }}:8080
{{- end -}}
{{- end -}}

{{- define "catraca.jwksUrl" -}}
{{- if .Values.identity.jwksUrl -}}
{{ .Values.identity.jwksUrl }}
{{- else -}}
http://{{ include "catraca.host" (dict "root" . "component" "issuer") }}:8080/jwks.json
{{- end -}}
{{- end -}}

{{- define "catraca.tokenUrl" -}}
{{- if .Values.identity.tokens.client.tokenUrl -}}
{{ .Values.identity.tokens.client.tokenUrl }}
{{- else -}}
http://{{ include "catraca.host" (dict "root" . "component" "issuer") }}:8080/token
{{- end -}}
{{- end -}}

{{- define "catraca.sandboxUrl" -}}
{{- if .Values.payment.sandbox.url -}}
{{ .Values.payment.sandbox.url }}
{{- else -}}
http://{{ include "catraca.host" (dict "root" . "component" "sandbox") }}:8090
{{- end -}}
{{- end -}}

{{- define "catraca.webhookUrl" -}}
{{- if .Values.payment.webhookUrl -}}
{{ .Values.payment.webhookUrl }}
{{- else -}}
{{ ternary "https" "http" .Values.tls.enabled }}://{{ include "catraca.host" (dict "root" . "component" "checkout") }}:8080
{{- end -}}
{{- end -}}
