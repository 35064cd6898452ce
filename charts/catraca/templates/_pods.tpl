{{/* What all pods have in common: they pass the `restricted` Pod Security Standard, on a root that nobody writes to. */}}

{{- define "catraca.podSecurity" -}}
{{- $uid := .uid | default 10001 -}}
automountServiceAccountToken: {{ .account | default false }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $uid }}
  runAsGroup: {{ $uid }}
  fsGroup: {{ $uid }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "catraca.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- define "catraca.ourImage" -}}
image: {{ include "catraca.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{- define "catraca.scheduling" -}}
{{- with .root.Values.scheduling }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .priorityClassName }}
priorityClassName: {{ .priorityClassName }}
{{- else if $.root.Values.warmNodes.enabled }}
priorityClassName: {{ include "catraca.priority" (dict "root" $.root "of" "service") }}
{{- end }}
{{- end }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    # More replicas in one place are better than fewer replicas.
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "catraca.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end -}}

{{/* Settings of a component by name, as its environment has them. Large numbers in full, which `quote` alone would not. */}}
{{- define "catraca.settings" -}}
{{- range $name, $value := . }}
- name: CATRACA_{{ upper $name }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- end -}}

{{/* Certificates of our own parts, for the components that speak gRPC. */}}
{{- define "catraca.tlsEnvironment" -}}
{{- if .Values.tls.enabled }}
- name: CATRACA_TLS_CERT_FILE
  value: /etc/catraca/tls/tls.crt
- name: CATRACA_TLS_KEY_FILE
  value: /etc/catraca/tls/tls.key
- name: CATRACA_TLS_CA_FILE
  value: /etc/catraca/tls/ca.crt
{{- end }}
{{- end -}}

{{- define "catraca.tlsSource" -}}
{{- if .root.Values.tls.enabled }}
- secret:
    name: {{ include "catraca.tlsSecret" . }}
    items:
      - { key: tls.crt, path: tls/tls.crt }
      - { key: tls.key, path: tls/tls.key }
      - { key: ca.crt, path: tls/ca.crt }
{{- end }}
{{- end -}}

{{/* A bearer token. It may come later than the pod, from who keeps it fresh. */}}
{{- define "catraca.tokenSource" -}}
- secret:
    name: {{ include "catraca.secret" (dict "root" .root "what" "tokens") }}
    optional: true
    items:
      - { key: {{ .token }}, path: tokens/{{ .token }} }
{{- end -}}

{{- define "catraca.caSource" -}}
{{- if .secret }}
- secret:
    name: {{ .secret }}
    items:
      - { key: ca.crt, path: ca/{{ .server }}.crt }
{{- end }}
{{- end -}}

{{- define "catraca.caEnvironment" -}}
{{- if .secret }}
- name: CATRACA_{{ upper .server }}_CA_FILE
  value: /etc/catraca/ca/{{ .server }}.crt
{{- end }}
{{- end -}}

{{- define "catraca.volumes" -}}
volumes:
  - name: tmp
    emptyDir: {}
  - name: catraca
    projected:
      defaultMode: 0440
      sources:
        {{- . | nindent 8 }}
{{- end -}}

{{- define "catraca.mounts" -}}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  - name: catraca
    mountPath: /etc/catraca
    readOnly: true
{{- end -}}
