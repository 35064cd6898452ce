{{/* What scales a service. minReplicas is left out: it is the operator's, who finds the floor at rest in the annotation. */}}
{{- define "catraca.autoscaler" -}}
{{- $v := .root.Values -}}
{{- $scaling := (get $v .component).autoscaling -}}
{{- if eq $v.autoscaling.source "Keda" -}}
{{ include "catraca.scaledObject" . }}
{{- else -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "catraca.name" . }}
  labels:
    {{- include "catraca.labels" . | nindent 4 }}
  annotations:
    catraca.dev/base-floor: {{ $scaling.baseFloor | int | quote }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "catraca.name" . }}
  maxReplicas: {{ $scaling.maxReplicas }}
  metrics:
    {{- if eq $v.autoscaling.source "Cpu" }}
    - type: Resource
      resource:
        name: cpu
        target: { type: Utilization, averageUtilization: {{ $v.autoscaling.cpuUtilization }} }
    {{- else }}
    - type: External
      external:
        metric:
          name: {{ $scaling.metric }}
          {{- with $v.autoscaling.metricLabels }}
          selector:
            matchLabels:
              {{- toYaml . | nindent 14 }}
          {{- end }}
        target: { type: AverageValue, averageValue: {{ $scaling.perReplica | int64 | quote }} }
    {{- end }}
  behavior:
    {{- include "catraca.behavior" $v | nindent 4 }}
{{- end -}}
{{- end -}}

{{/* The same for KEDA, by the queries of files/scaledobjects.yaml. minReplicaCount is the operator's. */}}
{{- define "catraca.scaledObject" -}}
{{- $v := .root.Values -}}
{{- $scaling := (get $v .component).autoscaling -}}
{{- $component := .component -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ include "catraca.name" . }}
  labels:
    {{- include "catraca.labels" . | nindent 4 }}
  annotations:
    catraca.dev/base-floor: {{ $scaling.baseFloor | int | quote }}
spec:
  scaleTargetRef:
    name: {{ include "catraca.name" . }}
  maxReplicaCount: {{ $scaling.maxReplicas }}
  triggers:
    {{- range (.root.Files.Get "files/scaledobjects.yaml" | splitList "\n---\n") }}
    {{- $document := fromYaml . }}
    {{- if eq $document.metadata.name $component }}
    - type: prometheus
      metadata:
        serverAddress: {{ $v.autoscaling.prometheusUrl }}
        query: {{ (first $document.spec.triggers).metadata.query | quote }}
        threshold: {{ $scaling.perReplica | int64 | quote }}
    {{- end }}
    {{- end }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        {{- include "catraca.behavior" $v | nindent 8 }}
{{- end -}}

{{- define "catraca.behavior" -}}
scaleUp:
  # A crowd does not come by and by.
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - { type: Percent, value: 100, periodSeconds: 15 }
    - { type: Pods, value: 10, periodSeconds: 15 }
scaleDown:
  stabilizationWindowSeconds: {{ .autoscaling.scaleDownStabilizationSeconds }}
{{- end -}}
